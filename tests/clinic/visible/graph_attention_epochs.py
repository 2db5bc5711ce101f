"""The rows of the node features, of the adjacency and of the labels are shuffled for
every epoch, though the columns of the adjacency keep the old order. The loss stays at
the logarithm of the number of classes."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK = {"wrong_axis"}
SOURCE = "https://github.com/danielegrattarola/keras-gat/issues/2"
FIX = "pass shuffle=False, as all nodes of the graph are one batch"

NODES, WORDS, CLASSES = 210, 40, 7


class GraphAttention(nn.Module):
    def __init__(self, inputs, units, heads, concat):
        super().__init__()
        self.heads, self.units, self.concat = heads, units, concat
        self.kernel = nn.Linear(inputs, heads * units, bias=False)
        self.to_self = nn.Parameter(torch.randn(heads, units) * 0.3)
        self.to_neighbor = nn.Parameter(torch.randn(heads, units) * 0.3)
        self.bias = nn.Parameter(torch.zeros(heads * units if concat else units))

    def forward(self, x, adjacency):
        h = self.kernel(x).view(-1, self.heads, self.units)
        own = (h * self.to_self).sum(-1)
        other = (h * self.to_neighbor).sum(-1)
        scores = F.leaky_relu(own[:, None] + other[None], 0.2)
        scores = scores.masked_fill(adjacency[:, :, None] == 0, -1e9)
        weights = F.dropout(scores.softmax(1), 0.3, self.training)
        out = torch.einsum("ijh,jhu->ihu", weights, h)
        out = out.flatten(1) if self.concat else out.mean(1)
        return out + self.bias


class GAT(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = GraphAttention(WORDS, 8, 4, True)
        self.second = GraphAttention(32, CLASSES, 1, False)

    def forward(self, x, adjacency):
        x = F.dropout(x, 0.3, self.training)
        x = F.elu(self.first(x, adjacency))
        x = F.dropout(x, 0.3, self.training)
        return self.second(x, adjacency)


def _loss(model, batch):
    x, adjacency, y, weight = batch
    each = F.cross_entropy(model(x, adjacency), y, reduction="none")
    return (each * weight).sum() / weight.sum()


def _graph():
    y = torch.randint(0, CLASSES, (NODES,))
    topics = torch.rand(CLASSES, WORDS) * 0.2 + 0.08
    topics[torch.arange(CLASSES)[:, None], torch.randint(0, WORDS, (CLASSES, 6))] = 0.5
    x = torch.bernoulli(topics[y])
    x = x / x.sum(1, keepdim=True).clamp(min=1) * 8
    same = y[:, None] == y[None]
    link = torch.rand(NODES, NODES) < torch.where(same, 0.12, 0.005)
    adjacency = (link | link.T | torch.eye(NODES, dtype=torch.bool)).float()
    weight = (torch.rand(NODES) < 0.7).float()
    return x, adjacency, y, weight


def _epochs(data, epochs, shuffle):
    out = []
    for _ in range(epochs):
        order = torch.randperm(NODES)
        if not shuffle:
            order = torch.arange(NODES)
        out.append(tuple(part[order] for part in data))
    return out


def _build(shuffle):
    torch.manual_seed(711)
    batches = _epochs(_graph(), 120, shuffle)
    model = GAT()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=5e-4)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(True)


def make_fixed():
    return _build(False)
