"""A beginner's loop after a chapter of a book: forward, loss, backward, step. The
accuracy goes down the longer it trains, and the loss up."""

import torch
from torch import nn

CAUSE = "missing_zero_grad"
ALSO_OK = set()
SOURCE = "https://github.com/Miraclelucy/dive_into_deep_learning/issues/6"
FIX = "call optimizer.zero_grad() for every batch"


def _build(good):
    torch.manual_seed(4108)
    shapes = torch.rand(10, 64)
    batches = []
    for _ in range(120):
        y = torch.randint(0, 10, (64,))
        x = (0.7 * shapes[y] + 0.3 * torch.rand(64, 64) - 0.5) / 0.3
        batches.append((x + 1.6 * torch.randn(64, 64), y))
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    criterion = nn.CrossEntropyLoss()

    def step(batch):
        x, y = batch
        if good:
            optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return dict(model=net, step=step, optimizer=optimizer, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
