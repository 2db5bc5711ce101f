import torch
from torch import nn

CAUSE = "sum_reduction"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://stats.stackexchange.com/questions/594738"
FIX = "reduction='mean'"


def _build(good):
    torch.manual_seed(12)
    w = torch.randn(10, 1) / 3
    batches = []
    for _ in range(60):
        x = torch.randn(128, 10)
        batches.append((x, torch.sin(2 * x @ w)))
    model = nn.Sequential(
        nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1)
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    return dict(
        model=model,
        loss_fn=nn.MSELoss(reduction="mean" if good else "sum"),
        optimizer=opt,
        batches=batches,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
