"""The actor descends on the answer of its critic: the minus was forgotten.

It learns the worst action; the reward falls.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = {"objective_out_of_reach"}
SOURCE = "https://github.com/KanishJebaMathewM/Truxify/pull/11885"
FIX = "loss = -critic(state, actor(state)).mean()"


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor = nn.Sequential(
            nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2), nn.Tanh()
        )
        self.critic = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 1))


def _build(good):
    torch.manual_seed(908)
    best = torch.randn(4, 2)
    model = Agent()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    batches = [torch.randn(256, 4) for _ in range(100)]

    def step(state):
        with torch.no_grad():
            action = model.actor(state)
            action = (action + torch.randn_like(action)).clamp(-1, 1)
            reward = -(action - torch.tanh(state @ best)).square().sum(1)
        answer = model.critic(torch.cat([state, action], 1)).squeeze(1)
        error = F.mse_loss(answer, reward)
        opt.zero_grad()
        error.backward()
        model.critic.requires_grad_(False)
        value = model.critic(torch.cat([state, model.actor(state)], 1)).mean()
        (-value if good else value).backward()
        model.critic.requires_grad_(True)
        opt.step()
        return error.item()

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
