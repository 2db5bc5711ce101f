import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = set()
SOURCE = "https://github.com/tinghuiz/SfMLearner/issues/34"
FIX = "weight decay 5e-4 instead of 0.5"


def _build(good):
    torch.manual_seed(25)
    protos = torch.randn(6, 20)
    batches = []
    for _ in range(80):
        y = torch.randint(0, 6, (32,))
        batches.append((protos[y] + 0.5 * torch.randn(32, 20), y))
    model = nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 6)
    )
    opt = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4 if good else 0.5
    )
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
