import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "two thirds of the units are off for an input, and all learn"
FIX = "nothing to fix"


def table(n, batch, features=20, classes=5, noise=0.5):
    protos = torch.randn(classes, features)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, features), y))
    return out


def make():
    torch.manual_seed(136)
    batches = table(80, 64)
    model = nn.Sequential(
        nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 5)
    )
    nn.init.constant_(model[0].bias, -0.4)
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


make_fixed = make
