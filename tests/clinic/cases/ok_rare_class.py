import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "nothing: the prior bias starts low and flat, the rare class comes later"


def _build():
    torch.manual_seed(124)
    w = torch.randn(12, 1)
    batches = []
    for _ in range(60):
        x = torch.randn(256, 12)
        batches.append((x, (x @ w / w.norm() > 2.0).float()))
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1))
    nn.init.constant_(model[2].bias, -3.8)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(
        model=model,
        optimizer=opt,
        batches=batches,
        loss_fn=F.binary_cross_entropy_with_logits,
    )


def make():
    return _build()


make_fixed = make
