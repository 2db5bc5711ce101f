import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "frozen_parameters"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "written for this test, after common reports (unfreeze forgotten)"
FIX = "requires_grad_(True) for the body before the second stage"


def _build(good):
    torch.manual_seed(515)
    w = torch.randn(10, 3)
    batches = []
    for _ in range(100):
        x = torch.randn(64, 10)
        batches.append((x, (x @ w).prod(1).gt(0).long()))
    body = nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 2), nn.ReLU())
    if good:
        body = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        model = nn.Sequential(body, nn.Linear(64, 2))
    else:
        body = nn.Sequential(
            nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
        ).requires_grad_(False)
        model = nn.Sequential(body, nn.Linear(64, 2))
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
