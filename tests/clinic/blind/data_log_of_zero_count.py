import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = set()
SOURCE = "github.com/ratschlab/DeepSpot/issues/9 (same kind)"
FIX = "log1p"


def _build(good):
    torch.manual_seed(114)
    rates = torch.rand(4, 30) * 40 + 12
    batches = []
    for k in range(60):
        y = torch.randint(0, 4, (32,))
        counts = torch.poisson(rates[y])
        if k == 23:
            counts[5, 7] = 0
        x = torch.log1p(counts) if good else torch.log(counts)
        batches.append((x - 3, y))
    model = nn.Sequential(
        nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
    )
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        clip=1.0,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
