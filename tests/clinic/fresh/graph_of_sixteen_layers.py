"""Sixteen averages over neighbors leave all nodes alike."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "deep_no_skip_or_norm"
ALSO_OK = {"representation_collapse", "vanishing"}
SOURCE = "https://github.com/RS-KR/GNN-RS-Beginner/issues/12"
FIX = "add the nodes to their averages (residual connections), or use few layers"


class Net(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.enter = nn.Linear(8, 32)
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(16))
        self.leave = nn.Linear(32, 4)

    def forward(self, x, near):
        h = torch.relu(self.enter(x))
        for layer in self.layers:
            new = torch.relu(layer(near @ h))
            h = h + new if self.good else new
        return self.leave(h)


def _loss(model, batch):
    x, near, y = batch
    return F.cross_entropy(model(x, near), y)


def _build(good):
    torch.manual_seed(917)
    rule = torch.randn(8, 4)
    batches = []
    for _ in range(80):
        x = torch.randn(60, 8)
        edges = torch.rand(60, 60) < 0.06
        edges = (edges | edges.T).float() + torch.eye(60)
        near = edges / edges.sum(1, keepdim=True)
        batches.append((x, near, (x @ rule).argmax(1)))
    model = Net(good)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
