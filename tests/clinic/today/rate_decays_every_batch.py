import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "learning_rate_zero"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/leftthomas/SRGAN/issues/94 (same kind)"
FIX = "scheduler.step() once an epoch"


def _build(good):
    torch.manual_seed(516)
    protos = torch.randn(8, 24)
    batches = []
    for _ in range(100):
        y = torch.randint(0, 8, (32,))
        batches.append((protos[y] + 0.8 * torch.randn(32, 24), y))
    model = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 8))
    opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ExponentialLR(opt, 0.8)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        scheduler=None if good else schedule.step,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
