"""The loss of the tutorial is summed over the batch. With 128 samples and its small
rate that went well; with a larger batch the gradient grows along with it, and the
loss shoots up at once."""

from itertools import pairwise

import torch
from torch import nn

CAUSE = "sum_reduction"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://github.com/jax-ml/jax/pull/3113"
FIX = "the mean over the samples in place of the sum"

BATCH = 1024


class Net(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(m, n) for m, n in pairwise(sizes))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        x = self.layers[-1](x)
        return x - x.logsumexp(1, keepdim=True)


def _summed(predictions, targets):
    return -(predictions * targets).sum()


def _averaged(predictions, targets):
    return -(predictions * targets).sum(1).mean()


def _build(loss_fn):
    torch.manual_seed(4109)
    looks = torch.randn(10, 64)
    batches = []
    for _ in range(100):
        digit = torch.randint(10, (BATCH,))
        x = looks[digit] * 0.5 + torch.randn(BATCH, 64)
        batches.append((x, torch.eye(10)[digit]))
    model = Net([64, 128, 128, 10])
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(_summed)


def make_fixed():
    return _build(_averaged)
