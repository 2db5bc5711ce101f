"""A sentence model returns its outputs as plain data, and the owner wrapped the loss in
a new variable so that backward runs: no weight gets a gradient, and the loss of every
epoch is the same."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import Variable

CAUSE = "detached_graph"
ALSO_OK = set()
SOURCE = "https://github.com/huggingface/torchMoji/issues/21"
FIX = "return the outputs with their graph, and take the loss as it is"

WORDS, LENGTH = 60, 10


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.vector = nn.Parameter(torch.randn(width) / width**0.5)

    def forward(self, x):
        weights = torch.softmax(x @ self.vector, dim=1)
        return (weights.unsqueeze(-1) * x).sum(1)


class Moji(nn.Module):
    def __init__(self, return_tensor):
        super().__init__()
        self.return_tensor = return_tensor
        self.embed = nn.Embedding(WORDS, 32)
        self.lstm_0 = nn.LSTM(32, 24, batch_first=True, bidirectional=True)
        self.lstm_1 = nn.LSTM(48, 24, batch_first=True, bidirectional=True)
        self.attention = Attention(48 + 48 + 32)
        self.output = nn.Linear(48 + 48 + 32, 2)

    def forward(self, ids):
        x = torch.tanh(self.embed(ids))
        first, _ = self.lstm_0(x)
        second, _ = self.lstm_1(first)
        outputs = self.output(self.attention(torch.cat([second, first, x], dim=2)))
        if self.return_tensor:
            outputs = outputs.data
        return outputs


def _loss(model, batch):
    ids, labels = batch
    loss = F.cross_entropy(model(ids), labels)
    if model.return_tensor:
        loss = Variable(loss, requires_grad=True)
    return loss


def _build(good):
    torch.manual_seed(967)
    mood = torch.randn(WORDS)
    mood = mood - mood.mean()
    batches = []
    for _ in range(100):
        ids = torch.randint(WORDS, (32, LENGTH))
        batches.append((ids, (mood[ids].sum(1) > 0).long()))
    model = Moji(return_tensor=not good)
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
