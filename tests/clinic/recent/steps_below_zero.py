"""The step of a state space layer is used as it is projected, so it may be negative.
Its decay then grows instead, step by step, until the state is infinite."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "recurrent_explosion"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/alxndrTL/mamba.py/issues/53"
FIX = "pass the projected step through softplus"


class Scan(nn.Module):
    def __init__(self, width, good, states=4):
        super().__init__()
        self.good = good
        self.step = nn.Linear(width, width)
        self.write, self.read = nn.Linear(width, states), nn.Linear(width, states)
        start = torch.arange(1.0, states + 1).log().repeat(width, 1)
        self.rate = nn.Parameter(start)
        self.skip = nn.Parameter(torch.ones(width))

    def forward(self, x):
        step = self.step(x)
        if self.good:
            step = F.softplus(step - 2)
        decay = (step[..., None] * -self.rate.exp()).exp()
        push = (step * x)[..., None] * self.write(x)[:, :, None, :]
        state, out = torch.zeros_like(push[:, 0]), []
        read = self.read(x)
        for i in range(x.shape[1]):
            state = decay[:, i] * state + push[:, i]
            out.append((state * read[:, i, None, :]).sum(-1))
        return torch.stack(out, 1) + self.skip * x


class Model(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.inside = nn.Linear(3, 16)
        self.scan = Scan(16, good)
        self.norm = nn.LayerNorm(16)
        self.out = nn.Linear(16, 1)

    def forward(self, x):
        x = self.inside(x)
        return self.out(self.norm(x + self.scan(x)))[..., 0]


def _loss(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def _build(good):
    torch.manual_seed(2116)
    batches = []
    for _ in range(100):
        x = torch.randn(24, 48, 3)
        mean, y = torch.zeros(24), []
        for i in range(48):
            mean = 0.8 * mean + 0.4 * x[:, i, 0]
            y.append(mean)
        batches.append((x, torch.stack(y, 1) / 0.6))
    model = Model(good)
    opt = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
