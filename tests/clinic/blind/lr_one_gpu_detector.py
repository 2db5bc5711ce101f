import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = set()
SOURCE = "github.com/facebookresearch/maskrcnn-benchmark/issues/295 (same kind)"
FIX = "lr 0.01"


def images(n, batch, size=12, classes=6, noise=0.6):
    protos = torch.randn(classes, 3, size, size)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, 3, size, size), y))
    return out


def _build(good):
    torch.manual_seed(101)
    batches = images(60, 16)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(288, 6),
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.02 if good else 1.5, momentum=0.9)
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
