import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "deep_no_skip_or_norm"
ALSO_OK = {"vanishing"}
SOURCE = "github.com/tensorflow/models/issues/991 (same kind)"
FIX = "batch norm"


def images(n, batch, size=12, classes=6, noise=0.6):
    protos = torch.randn(classes, 3, size, size)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, 3, size, size), y))
    return out


def _build(good):
    torch.manual_seed(118)
    batches = images(40, 16)
    layers = [nn.Conv2d(3, 12, 3, padding=1), nn.ReLU()]
    for _ in range(20):
        layers += [
            nn.Conv2d(12, 12, 3, padding=1),
            *([nn.BatchNorm2d(12)] if good else []),
            nn.ReLU(),
        ]
    model = nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(108, 6)
    )
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
