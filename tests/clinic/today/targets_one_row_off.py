import torch
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK = set()
SOURCE = "written for this test, after common reports (an index dropped once)"
FIX = "reset the index of both tables"


def _build(good):
    torch.manual_seed(523)
    w = torch.randn(10, 1) / 3
    x = torch.randn(80 * 128, 10)
    y = torch.tanh(x @ w) + 0.1 * torch.randn(len(x), 1)
    if not good:
        y = y.roll(1, 0)
    batches = list(zip(x.split(128), y.split(128), strict=True))
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
