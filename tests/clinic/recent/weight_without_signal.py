"""The weight of a step is divided by its signal, which the last step does not have.
The first batch that holds the last step makes the loss NaN, and the weights with it."""

import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/kohya-ss/sd-scripts/pull/934"
FIX = "divide by snr + 1 at once, instead of by snr and then by (snr + 1) / snr"

STEPS = 100


def _signal():
    """Cosine schedule, stretched until the last step holds noise alone."""
    t = torch.arange(STEPS) / STEPS
    root = torch.cos((t + 0.008) / 1.008 * torch.pi / 2)
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return root**2


class Velocity(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(9, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 8)
        )

    def forward(self, x, t):
        return self.body(torch.cat([x, t[:, None] / STEPS], 1))


def _build(good):
    torch.manual_seed(2101)
    alpha = _signal()
    centers = 1.5 * torch.randn(4, 8)
    batches = []
    for _ in range(100):
        clean = centers[torch.randint(0, 4, (64,))] + 0.2 * torch.randn(64, 8)
        clean = clean / centers.std()
        batches.append((clean, torch.randn(64, 8), torch.randint(0, STEPS, (64,))))

    def loss(model, batch):
        clean, noise, t = batch
        a = alpha[t][:, None]
        noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
        aim = a.sqrt() * noise - (1 - a).sqrt() * clean
        each = (model(noisy, t) - aim).square().mean(1)
        snr = alpha[t] / (1 - alpha[t]).clamp(min=1e-6)
        if good:
            weight = snr.clamp(max=5) / (snr + 1)
        else:
            weight = snr.clamp(max=5) / snr * snr / (snr + 1)
        return (weight * each).mean()

    model = Velocity()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
