"""A NeRF with a ReLU on its density learns a small object before a white background.
Early on the density becomes zero everywhere, every ray is white, and the loss does not
drop."""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "dead_relu"
ALSO_OK = set()
SOURCE = "https://github.com/kwea123/nerf_pl/issues/75"
FIX = "softplus instead of ReLU for the density"

NEAR, FAR, SAMPLES = 1.0, 3.0, 16


class NeRF(nn.Module):
    def __init__(self, density):
        super().__init__()
        self.density = density
        widths = [2 + 2 * 2 * 4] + [64] * 7
        self.body = nn.Sequential()
        for inputs, outputs in itertools.pairwise(widths):
            self.body.extend([nn.Linear(inputs, outputs), nn.ReLU()])
        self.sigma = nn.Linear(64, 1)
        self.color = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))

    def forward(self, rays):
        origin, direction = rays
        depth = torch.linspace(NEAR, FAR, SAMPLES)
        points = origin[:, None] + depth[:, None] * direction[:, None]
        waves = [points]
        for octave in range(4):
            waves += [(2**octave * points).sin(), (2**octave * points).cos()]
        hidden = self.body(torch.cat(waves, 2))
        sigma = self.density(self.sigma(hidden).squeeze(2))
        color = self.color(hidden).sigmoid()
        alpha = 1 - torch.exp(-sigma * (FAR - NEAR) / SAMPLES)
        free = torch.cumprod(1 - alpha + 1e-10, 1)
        weight = alpha * torch.cat((torch.ones(len(free), 1), free[:, :-1]), 1)
        rgb = (weight[:, :, None] * color).sum(1)
        return rgb + 1 - weight.sum(1, keepdim=True)


def _rays(count=200):
    angle = 6.2832 * torch.rand(count, 1)
    origin = 2 * torch.cat((angle.cos(), angle.sin()), 1)
    aim = 0.9 * (2 * torch.rand(count, 2) - 1)
    direction = F.normalize(aim - origin, dim=1)
    rgb = torch.ones(count, 3)
    along = -(origin * direction).sum(1, keepdim=True)
    miss = (origin + along * direction).norm(dim=1)
    hit = miss < 0.3
    entry = (
        origin
        + (along - (0.09 - miss.square()).clamp(min=0).sqrt()[:, None]) * direction
    )
    side = entry / 0.3
    paint = torch.stack((side[:, 0], side[:, 1], -side[:, 0]), 1) * 0.3 + 0.35
    rgb[hit] = paint[hit].clamp(0, 1)
    return (origin, direction), rgb


def _build(density):
    torch.manual_seed(7582)
    batches = [_rays() for _ in range(150)]
    model = NeRF(density)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss_fn=F.mse_loss, optimizer=opt, batches=batches)


def make():
    return _build(F.relu)


def make_fixed():
    return _build(F.softplus)
