"""The policy update of PPO with advantages from the estimator as a column and ratios
as a vector. The surrogate loss stays near zero and the policy does not improve."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "shape_mismatch"
ALSO_OK = set()
SOURCE = "https://github.com/RITCHIEHuang/DeepRL_Algorithms/issues/13"
FIX = "multiply the ratio by advantages.reshape(-1)"

OBS, ACTIONS, CLIP = 8, 4, 0.2


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(OBS, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()
        )
        self.head = nn.Linear(64, ACTIONS)

    def log_prob(self, states, actions):
        logp = F.log_softmax(self.head(self.body(states)), 1)
        return logp.gather(1, actions[:, None]).squeeze(1), logp


def estimate_advantages(rewards, values):
    advantages = rewards - values
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def _build(good):
    torch.manual_seed(4106)
    taste = torch.randn(OBS, ACTIONS)
    batches = []
    for _ in range(120):
        states = torch.randn(128, OBS)
        actions = torch.randint(0, ACTIONS, (128,))
        rewards = (states @ taste).gather(1, actions[:, None])
        rewards = rewards + 0.3 * torch.randn(128, 1)
        values = (states @ taste).mean(1, keepdim=True)
        old_logp = torch.full((128,), 1 / ACTIONS).log()
        advantages = estimate_advantages(rewards, values)
        batches.append((states, actions, old_logp, advantages))
    model = Policy()
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)

    def loss(model, batch):
        states, actions, old_logp, advantages = batch
        logp, every = model.log_prob(states, actions)
        ratio = torch.exp(logp - old_logp)
        if good:
            advantages = advantages.reshape(-1)
        surr1 = ratio * advantages
        surr2 = torch.clamp(ratio, 1 - CLIP, 1 + CLIP) * advantages
        entropy = -(every.exp() * every).sum(1).mean()
        return -torch.min(surr1, surr2).mean() - 1e-3 * entropy

    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
