"""A diffusion model is asked for noise that was drawn anew, not for what was added.

The loss stays at 1, the variance of the noise.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK: set[str] = set()
SOURCE = "written for this test, after common reports (noise drawn twice)"
FIX = "keep the noise that was added, and predict it"


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(9, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 8)
        )

    def forward(self, x, t):
        return self.net(torch.cat([x, t], 1))


def _build(good):
    torch.manual_seed(906)
    shape = torch.randn(2, 8)

    def loss(model, x):
        t = torch.rand(len(x), 1)
        noise = torch.randn_like(x)
        noisy = (1 - t).sqrt() * x + t.sqrt() * noise
        target = noise if good else torch.randn_like(x)
        return F.mse_loss(model(noisy, t), target)

    batches = [torch.randn(128, 2) @ shape / 1.4 for _ in range(100)]
    model = Denoiser()
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
