import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "dead_relu"
ALSO_OK = set()
SOURCE = "github.com/Yang7879/3D-RecGAN/issues/6 (same kind)"
FIX = "zero biases before a ReLU"


def images(n, batch, size=12, classes=6, noise=0.6):
    protos = torch.randn(classes, 3, size, size)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, 3, size, size), y))
    return out


def _build(good):
    torch.manual_seed(107)
    batches = images(60, 32)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(288, 6),
    )
    if not good:
        nn.init.constant_(model[2].bias, -4.6)
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
