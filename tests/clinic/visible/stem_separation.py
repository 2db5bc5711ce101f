"""Some chunks of a stem are silent, and the scale of the target in the signal-to-
distortion ratio is then zero over zero. The loss is not a number from the first such
chunk on."""

import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"bad_data"}
SOURCE = "https://github.com/csteinmetz1/auraloss/issues/25"
FIX = "add eps to the energy of the target"

SAMPLES, FILTERS = 400, 32


class Separator(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv1d(1, FILTERS, 16, stride=8)
        self.inside = nn.Sequential(
            nn.Conv1d(FILTERS, 64, 3, padding=1),
            nn.PReLU(),
            nn.Conv1d(64, 64, 3, padding=2, dilation=2),
            nn.PReLU(),
            nn.Conv1d(64, FILTERS, 1),
        )
        self.decoder = nn.ConvTranspose1d(FILTERS, 1, 16, stride=8)

    def forward(self, mixture):
        x = self.encoder(mixture[:, None])
        return self.decoder(x * torch.sigmoid(self.inside(x)))[:, 0]


class SISDRLoss(nn.Module):
    def __init__(self, guard, eps=1e-8):
        super().__init__()
        self.guard, self.eps = guard, eps

    def forward(self, x, y):
        x = x - x.mean(-1, keepdim=True)
        y = y - y.mean(-1, keepdim=True)
        energy = (y * y).sum(-1)
        if self.guard:
            energy = energy + self.eps
        scale = (x * y).sum(-1) / energy
        target = y * scale[:, None]
        rest = x - target
        ratio = target.pow(2).sum(-1) / (rest.pow(2).sum(-1) + self.eps)
        return -10 * torch.log10(ratio + self.eps).mean()


def _tone(low, high, count):
    t = torch.arange(SAMPLES) / SAMPLES
    pitch = low + (high - low) * torch.rand(count, 3, 1)
    phase = 6.2832 * torch.rand(count, 3, 1)
    loud = 0.3 + 0.7 * torch.rand(count, 3, 1)
    return (loud * torch.sin(6.2832 * pitch * t + phase)).sum(1)


def _build(guard):
    torch.manual_seed(2521)
    batches = []
    for _i in range(120):
        bass, melody = _tone(5, 20, 16), _tone(40, 90, 16)
        if torch.rand(()) < 0.04:
            bass[torch.randint(16, ())] = 0.0
        noise = 0.05 * torch.randn(16, SAMPLES)
        batches.append((bass + melody + noise, bass))
    model = Separator()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(
        model=model, loss_fn=SISDRLoss(guard), optimizer=opt, batches=batches, clip=5.0
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
