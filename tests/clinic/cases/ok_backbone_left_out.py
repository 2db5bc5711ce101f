import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "https://github.com/BINE022/EEGPT/issues/18"
FIX = "nothing to fix: only the head is meant to learn"


def make():
    torch.manual_seed(30)
    protos = torch.randn(5, 24)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 5, (32,))
        batches.append((protos[y] + 0.5 * torch.randn(32, 24), y))
    model = nn.Sequential()
    model.add_module(
        "backbone",
        nn.Sequential(nn.Linear(24, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU()),
    )
    model.add_module("head", nn.Linear(96, 5))
    opt = torch.optim.AdamW(model.head.parameters(), lr=1e-2)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


make_fixed = make
