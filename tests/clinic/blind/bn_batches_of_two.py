import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "batchnorm_misuse"
ALSO_OK = set()
SOURCE = "github.com/cvlab-epfl/disk/issues/6 (same kind)"
FIX = "group norm or larger batches"


def _build(good):
    torch.manual_seed(119)
    w = torch.randn(10, 1)
    batches = []
    for _ in range(200):
        x = torch.randn(2, 10)
        batches.append((x, x @ w / 3))
    norm = nn.LayerNorm if good else nn.BatchNorm1d
    model = nn.Sequential(
        nn.Linear(10, 64),
        norm(64),
        nn.ReLU(),
        nn.Linear(64, 64),
        norm(64),
        nn.ReLU(),
        nn.Linear(64, 1),
    )
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(
        model=model,
        loss_fn=F.mse_loss,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
