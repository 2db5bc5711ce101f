"""A physics-informed net raises its own output to the power 1.2. As soon as the
output is negative at some point, the power is NaN, and so are the loss and all
weights."""

import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/prateekbhustali/Physics-Informed-Neural-Networks/issues/1"
FIX = "keep the concentration positive, here by a softplus at the output"

DIFFUSIVITY = 0.02


class Concentration(nn.Module):
    def __init__(self, positive):
        super().__init__()
        self.positive = positive
        self.net = nn.Sequential(
            nn.Linear(2, 32),
            nn.Tanh(),
            nn.Linear(32, 32),
            nn.Tanh(),
            nn.Linear(32, 32),
            nn.Tanh(),
            nn.Linear(32, 1),
        )

    def forward(self, g):
        u = self.net(g)
        return nn.functional.softplus(u) if self.positive else u


def _gradients(outputs, inputs):
    ones = torch.ones_like(outputs)
    return torch.autograd.grad(outputs, inputs, ones, create_graph=True)[0]


def _internal(model, points):
    g = points.clone().requires_grad_(True)
    u = model(g)
    u_t = _gradients(u, g)[:, [1]]
    flux = _gradients(DIFFUSIVITY * u**1.2, g)[:, [0]]
    u_xx = _gradients(flux, g)[:, [0]]
    return (u_t - u_xx).pow(2).mean()


def _loss(model, batch):
    inside, start, profile, walls = batch
    initial = (model(start) - profile).pow(2).mean()
    boundary = model(walls).pow(2).mean()
    return _internal(model, inside) + 10 * (initial + boundary)


def _sample():
    inside = torch.rand(128, 2)
    start = torch.stack([torch.rand(64), torch.zeros(64)], 1)
    profile = torch.sin(torch.pi * start[:, :1])
    walls = torch.stack([torch.randint(0, 2, (64,)).float(), torch.rand(64)], 1)
    return inside, start, profile, walls


def _build(positive):
    torch.manual_seed(12)
    batches = [_sample() for _ in range(150)]
    model = Concentration(positive)
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
