import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "missing_zero_grad"
ALSO_OK = set()
SOURCE = "https://github.com/tenstorrent/tt-blacksmith/pull/711"
FIX = "zero_grad before every backward"


def _build(good):
    torch.manual_seed(18)
    w = torch.randn(12, 1) / 3
    batches = []
    for _ in range(80):
        x = torch.randn(32, 12)
        batches.append((x, torch.sin(2 * x @ w)))
    model = nn.Sequential(
        nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    seen = [0]

    def step(batch):
        if good or seen[0] % 100 == 0:
            opt.zero_grad()
        seen[0] += 1
        loss = F.mse_loss(model(batch[0]), batch[1])
        loss.backward()
        opt.step()
        return loss.item()

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
