import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "clip_misplaced"
ALSO_OK = set()
SOURCE = "https://github.com/APPFL/APPFL/issues/198"
FIX = "clip after backward, before the step"


def _build(good):
    torch.manual_seed(118)
    w = torch.randn(10, 1) / 3
    batches = []
    for i in range(80):
        x = torch.randn(32, 10)
        y = torch.sin(2 * x @ w)
        if i % 10 == 6:
            x, y = x * 8, y * 8
        batches.append((x, y))
    model = nn.Sequential(
        nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(batch):
        opt.zero_grad()
        if not good:
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        loss = F.mse_loss(model(batch[0]), batch[1])
        loss.backward()
        if good:
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        opt.step()
        return float(loss)

    return dict(model=model, step=step, optimizer=opt, batches=batches, clip=0.25)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
