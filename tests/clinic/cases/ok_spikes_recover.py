import torch
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "nothing to fix: rare batches spike, the curve recovers"


def make():
    torch.manual_seed(33)
    w = torch.randn(16, 1) / 4
    batches = []
    for i in range(80):
        x = torch.randn(32, 16)
        y = torch.sin(2 * x @ w)
        if i % 16 == 7:
            y = y + 3 * torch.randn(32, 1)
        batches.append((x, y))
    model = nn.Sequential(
        nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(
        model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches, clip=1.0
    )


make_fixed = make
