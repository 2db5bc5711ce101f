"""One recording of thousands was saved badly and holds a sample of 1e29.
The batch that it is in makes the loss infinite, and the update every weight NaN."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"unnormalized_input"}
SOURCE = "https://github.com/Plachtaa/seed-vc/pull/108"
FIX = "clamp samples to the range of sound, or leave the recording out"


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(1, 24, 9, padding=4),
            nn.GELU(),
            nn.Conv1d(24, 24, 9, padding=4),
            nn.GELU(),
            nn.Conv1d(24, 1, 9, padding=4),
        )

    def forward(self, x):
        return self.body(x)


def _loss(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def _build(good):
    torch.manual_seed(2126)
    t = torch.arange(128.0)
    batches = []
    for i in range(120):
        pitch = 0.1 + 0.3 * torch.rand(16, 1, 1)
        clean = 0.5 * torch.sin(pitch * t + 6.28 * torch.rand(16, 1, 1))
        noisy = (clean + 0.3 * torch.randn(16, 1, 128)).clamp(-1, 1)
        if i == 31:
            noisy[5, 0, 77] = 1e29
        if good:
            noisy = noisy.clamp(-1, 1)
        batches.append((noisy, clean))
    model = Denoiser()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
