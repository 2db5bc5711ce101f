"""Sales prices in dollars, up to three quarters of a million, are fitted with the
mean squared error. The squared errors are of the order of 1e10 from the start, and
the loss is nan in the first epoch."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unscaled_target"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://github.com/rstudio-conf-2020/dl-keras-tf/issues/9"
FIX = (
    "fit the logarithm of the price (as the thread does with msle), brought to mean"
    " 0 and variance 1"
)


def _loss(output, target):
    return F.mse_loss(output[:, 0], target)


def _build(logs):
    torch.manual_seed(4106)
    rows = torch.randn(1640, 30)
    slopes = torch.randn(30) * 0.07
    price = torch.exp(
        12 + rows @ slopes + 0.1 * rows[:, 0] * rows[:, 1] + torch.randn(1640) * 0.05
    )
    if logs:
        price = price.log()
        price = (price - price.mean()) / price.std()
    batches = []
    for _ in range(120):
        pick = torch.randint(1640, (16,))
        batches.append((rows[pick], price[pick]))
    model = nn.Sequential(
        nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    return dict(model=model, loss_fn=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
