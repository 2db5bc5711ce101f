import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK: set[str] = set()
SOURCE = "written for this test: label smoothing and dropout keep the loss high"
FIX = ""


def _loss_fn(out, y):
    return F.cross_entropy(out, y, label_smoothing=0.2)


def make():
    torch.manual_seed(813)
    rule = torch.randn(12, 5)
    batches = []
    for _ in range(100):
        x = torch.randn(48, 12)
        batches.append((x, (x @ rule).argmax(1)))
    model = nn.Sequential(
        nn.Linear(12, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 5)
    )
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=_loss_fn, optimizer=opt, batches=batches)


make_fixed = make
