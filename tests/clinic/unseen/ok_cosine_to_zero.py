import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK: set[str] = set()
SOURCE = (
    "written for this test: a schedule that reaches zero once the model has learned"
)
FIX = ""


def make():
    torch.manual_seed(811)
    rule = torch.randn(10, 4)
    batches = []
    for _ in range(90):
        x = torch.randn(64, 10)
        batches.append((x, (x @ rule + torch.randn(64, 4)).argmax(1)))
    model = nn.Sequential(nn.Linear(10, 64), nn.GELU(), nn.Linear(64, 4))
    opt = torch.optim.AdamW(model.parameters(), lr=2e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda step: 0.5 * (1 + math.cos(math.pi * min(step, 90) / 90))
    )
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        scheduler=scheduler,
    )


make_fixed = make
