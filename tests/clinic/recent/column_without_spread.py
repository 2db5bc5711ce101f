"""Columns are divided by their spread, and one holds the same number in every row.
It becomes NaN throughout, and so does every score from the first batch on."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/autogluon/autogluon/issues/4508"
FIX = "divide a column without spread by one, or leave it out"


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.kinds = nn.Embedding(7, 6)
        self.body = nn.Sequential(nn.Linear(15, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, numbers, kind):
        return self.body(torch.cat([numbers, self.kinds(kind)], 1))


def _loss(model, batch):
    numbers, kind, labels = batch
    return F.cross_entropy(model(numbers, kind), labels)


def _build(good):
    torch.manual_seed(2127)
    numbers = 10 * torch.rand(9) + torch.randn(6400, 9) * (1 + 5 * torch.rand(9))
    numbers[:, 4] = 20.0
    kind = torch.randint(0, 7, (6400,))
    spread = numbers.std(0)
    if good:
        spread = spread.masked_fill(spread == 0, 1.0)
    scaled = (numbers - numbers.mean(0)) / spread
    worth, bonus = torch.randn(9, 3), torch.randn(7, 3)
    worth[4] = 0
    labels = (scaled.nan_to_num() @ worth + bonus[kind]).argmax(1)
    batches = list(zip(scaled.split(64), kind.split(64), labels.split(64), strict=True))
    model = Table()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
