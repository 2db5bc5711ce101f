"""The value of the next observation is added to the return although the episode ended
there, and that observation already belongs to the next episode. The loss of the
critic rises steadily."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK = {"unscaled_target", "objective_out_of_reach"}
SOURCE = "https://github.com/RLinf/RLinf/pull/661"
FIX = "add no next value where the episode has terminated"

STATE, ACTIONS, STEPS, ENVS = 8, 4, 16, 16
GAMMA, LAM = 0.99, 0.95


class Robot:
    def __init__(self):
        self.goal = torch.randn(STATE) / STATE**0.5
        self.moves = torch.randn(ACTIONS, STATE) / 2
        self.state = torch.randn(ENVS, STATE)

    def step(self, action):
        noise = 0.2 * torch.randn(ENVS, STATE)
        state = 0.9 * self.state + self.moves[action] + noise
        done = state @ self.goal > 1.0
        fresh = torch.randn(ENVS, STATE)
        self.state = torch.where(done[:, None], fresh, state)
        return self.state, done.float(), done.float()


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(STATE, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()
        )
        self.policy = nn.Linear(64, ACTIONS)
        self.value = nn.Linear(64, 1)

    def forward(self, state):
        x = self.body(state)
        return self.policy(x), self.value(x)[..., 0]


class PPO:
    def __init__(self, model, opt, env, stop_at_end):
        self.model, self.opt, self.env = model, opt, env
        self.stop_at_end = stop_at_end

    @torch.no_grad()
    def rollout(self):
        keep = []
        for _ in range(STEPS):
            state = self.env.state
            logits, value = self.model(state)
            dist = torch.distributions.Categorical(logits=logits)
            action = dist.sample()
            _, reward, done = self.env.step(action)
            keep.append((state, action, dist.log_prob(action), value, reward, done))
        states, actions, logps, values, rewards, dones = map(
            torch.stack, zip(*keep, strict=True)
        )
        following = torch.cat([values[1:], self.model(self.env.state)[1][None]])
        go_on = 1 - dones if self.stop_at_end else torch.ones_like(dones)
        advantages, last = torch.zeros_like(rewards), 0.0
        for t in reversed(range(STEPS)):
            delta = rewards[t] + GAMMA * go_on[t] * following[t] - values[t]
            last = delta + GAMMA * LAM * go_on[t] * last
            advantages[t] = last
        return states, actions, logps, advantages, advantages + values

    def update(self, generator):
        torch.manual_seed(generator)
        states, actions, old, adv, returns = self.rollout()
        adv = (adv - adv.mean()) / (adv.std() + 1e-8)
        total = 0.0
        for _ in range(2):
            logits, value = self.model(states)
            dist = torch.distributions.Categorical(logits=logits)
            ratio = torch.exp(dist.log_prob(actions) - old)
            clipped = ratio.clamp(0.8, 1.2)
            policy_loss = -torch.minimum(ratio * adv, clipped * adv).mean()
            critic_loss = F.mse_loss(value, returns)
            loss = policy_loss + 0.5 * critic_loss - 0.01 * dist.entropy().mean()
            self.opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
            self.opt.step()
            total += critic_loss.item() / 2
        return total


def _build(stop_at_end):
    torch.manual_seed(661)
    env, model = Robot(), ActorCritic()
    opt = torch.optim.Adam(model.parameters(), lr=5e-4)
    agent = PPO(model, opt, env, stop_at_end)
    batches = torch.randint(10**6, (150,)).tolist()
    return dict(model=model, optimizer=opt, batches=batches, step=agent.update)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
