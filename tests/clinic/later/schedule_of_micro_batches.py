import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "learning_rate_zero"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/starVLA/starVLA/pull/210"
FIX = "step the scheduler once an update, not once a micro-batch"
UPDATES = 60
PARTS = 8


def _cosine(step):
    return 0.5 * (1 + math.cos(math.pi * min(step, UPDATES) / UPDATES))


def _build(good):
    torch.manual_seed(707)
    rule = torch.randn(10, 4)
    batches = []
    for _ in range(UPDATES):
        x = torch.randn(PARTS * 8, 10)
        batches.append((x, (x @ rule).argmax(1)))
    model = nn.Sequential(nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 4))
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(opt, _cosine)

    def step(batch):
        x, y = batch
        opt.zero_grad()
        total = 0.0
        parts = zip(x.chunk(PARTS), y.chunk(PARTS), strict=True)
        for number, (a, b) in enumerate(parts):
            loss = F.cross_entropy(model(a), b) / PARTS
            loss.backward()
            total += loss.item()
            last = number == PARTS - 1
            if last:
                opt.step()
            if last or not good:
                scheduler.step()
        return total

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
