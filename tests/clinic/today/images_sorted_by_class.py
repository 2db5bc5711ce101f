import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unshuffled_data"
ALSO_OK = set()
SOURCE = "https://github.com/pytorch/vision/issues/7818"
FIX = "shuffle=True"


def _build(good):
    torch.manual_seed(512)
    protos = torch.randn(8, 3, 8, 8)
    y = torch.arange(8).repeat_interleave(320)
    if good:
        y = y[torch.randperm(len(y))]
    batches = []
    for part in y.split(32):
        batches.append((protos[part] + 1.5 * torch.randn(32, 3, 8, 8), part))
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 8)
    )
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
