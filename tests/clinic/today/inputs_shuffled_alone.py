import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK = set()
SOURCE = "written for this test, after common reports (two shuffles)"
FIX = "one permutation for both"


def _build(good):
    torch.manual_seed(524)
    protos = torch.randn(6, 20)
    y = torch.randint(0, 6, (80 * 32,))
    x = protos[y] + 0.5 * torch.randn(len(y), 20)
    if not good:
        y = y[torch.randperm(len(y))]
    batches = list(zip(x.split(32), y.split(32), strict=True))
    model = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 6))
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
