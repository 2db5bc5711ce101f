"""Forbidden moves get the score minus infinity, and the entropy bonus counts them too.
Zero times minus infinity is NaN, so the first update ruins the policy."""

import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = (
    "https://github.com/JuliaReinforcementLearning/ReinforcementLearning.jl/issues/917"
)
FIX = "leave the forbidden moves out of the sum of p log p"

MOVES = 6


class Player(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 64), nn.Tanh())
        self.policy, self.value = nn.Linear(64, MOVES), nn.Linear(64, 1)

    def forward(self, x):
        h = self.body(x)
        return self.policy(h), self.value(h)[:, 0]


def _build(good):
    torch.manual_seed(2105)
    worth = torch.randn(10, MOVES) / 2
    batches = []
    for _ in range(120):
        x = torch.randn(128, 10)
        allowed = torch.rand(128, MOVES) < 0.7
        allowed[:, 0] = True
        move = torch.multinomial(allowed.float(), 1)[:, 0]
        gain = (x @ worth).gather(1, move[:, None])[:, 0] + 0.1 * torch.randn(128)
        old = -allowed.sum(1).float().log()
        batches.append((x, allowed, move, gain, old))

    def loss(model, batch):
        x, allowed, move, gain, old = batch
        scores, value = model(x)
        logp = scores.masked_fill(~allowed, -torch.inf).log_softmax(1)
        ratio = (logp.gather(1, move[:, None])[:, 0] - old).exp()
        better = gain - value.detach()
        surrogate = torch.min(ratio * better, ratio.clamp(0.2, 5) * better).mean()
        part = logp.exp() * (logp.masked_fill(~allowed, 0.0) if good else logp)
        entropy = -part.sum(1).mean()
        return (value - gain).square().mean() / 2 - surrogate - 0.01 * entropy

    model = Player()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
