"""Nodes of a graph were renumbered, their labels kept the old order."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/awslabs/graphstorm/issues/1138"
FIX = "renumber the labels by the map of the nodes"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.self1 = nn.Linear(8, 32), nn.Linear(8, 32)
        self.second, self.self2 = nn.Linear(32, 4), nn.Linear(32, 4)

    def forward(self, x, near):
        h = torch.relu(self.self1(x) + self.first(near @ x))
        return self.self2(h) + self.second(near @ h)


def _loss(model, batch):
    x, near, y = batch
    return F.cross_entropy(model(x, near), y)


def _build(good):
    torch.manual_seed(916)
    rule = torch.randn(8, 4)
    batches = []
    for _ in range(100):
        x = torch.randn(60, 8)
        edges = torch.rand(60, 60) < 0.06
        edges = (edges | edges.T).float() + torch.eye(60)
        near = edges / edges.sum(1, keepdim=True)
        y = ((x + near @ x) @ rule).argmax(1)
        batches.append((x, near, y if good else y[torch.randperm(60)]))
    model = Net()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
