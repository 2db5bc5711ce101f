import torch
from torch import nn

CAUSE = "target_leak"
ALSO_OK = set()
SOURCE = "written for this test, after common reports (tabular data)"
FIX = "drop the column"


def _build(good):
    torch.manual_seed(522)
    w = torch.randn(9, 1) / 3
    batches = []
    for _ in range(80):
        x = torch.randn(32, 9)
        y = torch.tanh(x @ w) + 0.2 * torch.randn(32, 1)
        batches.append((torch.cat([x, torch.randn(32, 1) if good else y], 1), y))
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
