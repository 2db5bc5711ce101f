import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "label noise keeps the loss high"
FIX = "nothing to fix"


def table(n, batch, features=20, classes=5, noise=0.5):
    protos = torch.randn(classes, features)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, features), y))
    return out


def make():
    torch.manual_seed(131)
    batches = []
    for x, y in table(100, 32, noise=1.0):
        wrong = torch.rand(32) < 0.5
        batches.append((x, torch.where(wrong, torch.randint(0, 5, (32,)), y)))
    model = nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 5)
    )
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


make_fixed = make
