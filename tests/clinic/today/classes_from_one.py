import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = set()
SOURCE = "written for this test, after common reports (Target 10 is out of bounds)"
FIX = "count classes from 0"


def _build(good):
    torch.manual_seed(521)
    protos = torch.randn(10, 24)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 10, (4,))
        x = protos[y] + 0.5 * torch.randn(4, 24)
        batches.append((x, y if good else y + 1))
    model = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 10))
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
