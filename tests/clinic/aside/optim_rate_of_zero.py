import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "the second group was left at lr 0"


def _build(good):
    torch.manual_seed(120)
    protos = torch.randn(6, 20)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 6, (32,))
        batches.append((protos[y] + 0.6 * torch.randn(32, 20), y))
    model = nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 6)
    )
    lr = 0.05 if good else 1e-7
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
