import copy

import torch
from torch import nn

CAUSE = "objective_out_of_reach"
ALSO_OK = {"unknown"}
SOURCE = "https://github.com/qiancheng0/ToolRL/issues/52"
FIX = "add the divergence from the reference to the loss, do not subtract it"


def _build(good):
    torch.manual_seed(801)
    best = torch.randn(6, 5)
    policy = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 5))
    reference = copy.deepcopy(policy)
    opt = torch.optim.Adam(policy.parameters(), lr=1e-2)
    batches = [torch.randn(32, 6) for _ in range(100)]
    sign = 1.0 if good else -1.0

    def step(x):
        logp = policy(x).log_softmax(1)
        with torch.no_grad():
            given = reference(x).log_softmax(1)
            actions = torch.multinomial(logp.exp(), 8, replacement=True)
            rewards = (actions == (x @ best).argmax(1)[:, None]).float()
            advantages = rewards - rewards.mean(1, keepdim=True)
        chosen, before = logp.gather(1, actions), given.gather(1, actions)
        ratio = before - chosen
        divergence = ratio.exp() - ratio - 1
        loss = (-advantages * chosen + sign * 2.0 * divergence).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.item()

    return dict(model=policy, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
