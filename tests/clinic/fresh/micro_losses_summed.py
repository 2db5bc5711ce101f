"""Gradients of eight micro-batches are summed, the loss was never divided by eight.

The norm of the gradient and the reported loss are eight times what they were.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "sum_reduction"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://github.com/huggingface/transformers/pull/34191"
FIX = "divide the loss of every micro-batch by their number"


def _build(good):
    torch.manual_seed(903)
    rule = torch.randn(10, 1)
    batches = []
    for _ in range(100):
        x = torch.randn(64, 10)
        batches.append((x, torch.sin(x @ rule / 2)))
    model = nn.Sequential(
        nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(batch):
        opt.zero_grad()
        total = 0.0
        for x, y in zip(batch[0].split(8), batch[1].split(8), strict=True):
            loss = F.mse_loss(model(x), y) / (8 if good else 1)
            loss.backward()
            total += loss.item()
        opt.step()
        return total

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
