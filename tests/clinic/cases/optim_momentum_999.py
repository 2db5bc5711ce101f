import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = {"lr_too_high"}
SOURCE = "written for this test, after common reports"
FIX = "momentum 0.9 instead of 0.999"


def _build(good):
    torch.manual_seed(116)
    protos = torch.randn(5, 16)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 5, (32,))
        batches.append((protos[y] + torch.randn(32, 16), y))
    model = nn.Sequential(
        nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5)
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9 if good else 0.999)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
