import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "sum_reduction"
ALSO_OK = {"lr_too_high"}
SOURCE = "written for this test, after common reports"
FIX = "mean over pixels instead of sum"


def _build(good):
    torch.manual_seed(112)
    kernel = torch.randn(3, 1, 3, 3)
    batches = []
    for _ in range(60):
        x = torch.randn(8, 1, 16, 16)
        batches.append((x, F.conv2d(x, kernel, padding=1).argmax(1)))
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 3, 1),
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return dict(
        model=model,
        loss_fn=nn.CrossEntropyLoss(reduction="mean" if good else "sum"),
        optimizer=opt,
        batches=batches,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
