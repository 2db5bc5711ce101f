import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/Lightning-Universe/lightning-bolts/issues/654"
FIX = "pass logits to cross_entropy"


def _build(good):
    torch.manual_seed(14)
    protos = torch.randn(10, 30)
    batches = []
    for _ in range(80):
        y = torch.randint(0, 10, (32,))
        batches.append((protos[y] + torch.randn(32, 30), y))
    model = nn.Sequential(
        nn.Linear(30, 10), nn.Identity() if good else nn.Softmax(dim=1)
    )
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
