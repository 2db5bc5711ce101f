import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "saturated_activation"
ALSO_OK = {"init_too_large"}
SOURCE = "github.com/floodsung/DDPG/issues/6 (same kind)"
FIX = "Xavier initialization"


def table(n, batch, features=20, classes=5, noise=0.5):
    protos = torch.randn(classes, features)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, features), y))
    return out


def _build(good):
    torch.manual_seed(106)
    batches = table(80, 32, noise=1.0)
    model = nn.Sequential(
        nn.Linear(20, 64),
        nn.Tanh(),
        nn.Linear(64, 64),
        nn.Tanh(),
        nn.Linear(64, 64),
        nn.Tanh(),
        nn.Linear(64, 5),
    )
    for k in (0, 2, 4, 6):
        nn.init.xavier_normal_(model[k].weight)
    if not good:
        for k in (0, 2, 4):
            nn.init.normal_(model[k].weight, std=6.0)
    opt = torch.optim.SGD(model.parameters(), lr=0.02)
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
