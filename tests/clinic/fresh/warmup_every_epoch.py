"""The warm-up counts the steps of an epoch, so it starts anew with each.

An epoch has ten steps and the warm-up a thousand: the rate never leaves zero.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "learning_rate_zero"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/Vision-CAIR/MiniGPT-4/pull/263"
FIX = "count the steps of the whole run: epoch * length + step"


def _build(good):
    torch.manual_seed(912)
    rule = torch.randn(12, 4)
    batches = []
    for _ in range(100):
        x = torch.randn(32, 12)
        batches.append((x, (x @ rule).argmax(1)))
    model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 4))
    peak = 5e-3
    opt = torch.optim.AdamW(model.parameters(), lr=0.0 if not good else peak / 20)
    count = [0]

    def scheduler():
        count[0] += 1
        step = count[0] if good else count[0] % 10
        warmup = 20 if good else 1000
        opt.param_groups[0]["lr"] = peak * min(1.0, step / warmup)

    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        scheduler=scheduler,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
