"""A diffusion model gets images from 0 to 255 where it expects -1 to 1.

Noise of variance 1 cannot be seen on them.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unnormalized_input"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/IDEALLab/EngiOpt/pull/67"
FIX = "x / 127.5 - 1 before noise is added"


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 16, 3, padding=1)
        self.rest = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 1, 3, padding=1),
        )

    def forward(self, x, t):
        return self.rest(self.first(torch.cat([x, t.expand_as(x)], 1)))


def _build(good):
    torch.manual_seed(907)
    grid = torch.linspace(-1, 1, 12)
    batches = []
    for _ in range(80):
        angle = 3.2 * torch.rand(32, 1, 1)
        wave = torch.cos(angle) * grid[None, :, None] + torch.sin(angle) * grid
        batches.append((127.5 * (1 + torch.sin(4 * wave)))[:, None].round())

    def loss(model, x):
        if good:
            x = x / 127.5 - 1
        t = torch.rand(len(x), 1, 1, 1)
        noise = torch.randn_like(x)
        return F.mse_loss(model((1 - t).sqrt() * x + t.sqrt() * noise, t), noise)

    model = Denoiser()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
