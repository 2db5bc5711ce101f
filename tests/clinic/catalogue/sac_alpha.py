"""Discrete soft actor-critic whose entropy target is log(number of actions). The
temperature climbs without end, and the critic's loss blows up with it."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "objective_out_of_reach"
ALSO_OK = set()
SOURCE = "https://github.com/rail-berkeley/rlkit/issues/75"
FIX = "ask for an entropy below log(number of actions), here 60 % of it"

ACTIONS = 4
GAMMA = 0.82


def _mlp(inputs, outputs):
    return nn.Sequential(
        nn.Linear(inputs, 48),
        nn.ReLU(),
        nn.Linear(48, 48),
        nn.ReLU(),
        nn.Linear(48, outputs),
    )


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.policy = _mlp(6, ACTIONS)
        self.q = _mlp(6, ACTIONS)
        self.target_q = copy.deepcopy(self.q).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.zeros(()))

    def losses(self, batch, target_entropy):
        obs, action, reward, next_obs = batch
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            next_logp = F.log_softmax(self.policy(next_obs), dim=1)
            soft = self.target_q(next_obs) - alpha * next_logp
            value = (next_logp.exp() * soft).sum(1)
            target = reward + GAMMA * value
        q = self.q(obs)
        taken = q.gather(1, action[:, None]).squeeze(1)
        q_loss = F.mse_loss(taken, target)
        logp = F.log_softmax(self.policy(obs), dim=1)
        pi = logp.exp()
        pi_loss = (pi * (alpha * logp - q.detach())).sum(1).mean()
        entropy = -(pi * logp).sum(1).detach()
        alpha_loss = (self.log_alpha * (entropy - target_entropy)).mean()
        return q_loss, pi_loss, alpha_loss


def _build(portion):
    torch.manual_seed(7511)
    good = torch.randn(6, ACTIONS)
    batches = []
    for _ in range(150):
        obs = torch.randn(128, 6)
        action = torch.randint(ACTIONS, (128,))
        reward = torch.tanh(obs @ good).gather(1, action[:, None]).squeeze(1)
        next_obs = 0.9 * obs + 0.2 * torch.randn(128, 6)
        batches.append((obs, action, 2 * reward, next_obs))
    agent = Agent()
    target_entropy = portion * math.log(ACTIONS)
    opt = torch.optim.Adam(
        [
            dict(params=agent.policy.parameters(), lr=3e-3),
            dict(params=agent.q.parameters(), lr=3e-3),
            dict(params=[agent.log_alpha], lr=5e-2),
        ]
    )

    def step(batch):
        q_loss, pi_loss, alpha_loss = agent.losses(batch, target_entropy)
        opt.zero_grad()
        (q_loss + pi_loss + alpha_loss).backward()
        opt.step()
        with torch.no_grad():
            for old, new in zip(
                agent.target_q.parameters(), agent.q.parameters(), strict=False
            ):
                old.lerp_(new, 0.2)
        return q_loss

    return dict(model=agent, optimizer=opt, step=step, batches=batches)


def make():
    return _build(1.0)


def make_fixed():
    return _build(0.6)
