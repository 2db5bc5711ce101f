import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "one positive in fifty; the loss starts low"
FIX = "nothing to fix"


def make():
    torch.manual_seed(132)
    w = torch.randn(12)
    batches = []
    for _ in range(120):
        x = torch.randn(128, 12)
        batches.append((x, ((x @ w) / w.norm() > 2.0).float()))
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
    nn.init.constant_(model[2].bias, -3.5)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(
        model=model,
        loss_fn=F.binary_cross_entropy_with_logits,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


make_fixed = make
