"""A network for tables with categories and numbers regresses an amount of some
hundreds, and the amount goes into the loss as it is. The loss hardly leaves that of
the answer zero for all rows."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unscaled_target"
ALSO_OK = set()
SOURCE = "https://github.com/autogluon/autogluon/issues/1158"
FIX = "standardize the target"

SORTS = (12, 7, 5)
NUMBERS = 6


class Tabular(nn.Module):
    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, 6) for n in SORTS)
        self.norm = nn.BatchNorm1d(NUMBERS)
        self.layers = nn.Sequential(
            nn.Linear(6 * len(SORTS) + NUMBERS, 100),
            nn.ReLU(),
            nn.BatchNorm1d(100),
            nn.Dropout(0.05),
            nn.Linear(100, 50),
            nn.ReLU(),
            nn.BatchNorm1d(50),
            nn.Linear(50, 1),
        )

    def forward(self, row):
        sorts, numbers = row
        x = [table(sorts[:, i]) for i, table in enumerate(self.tables)]
        x = torch.cat([*x, self.norm(numbers)], 1)
        return self.layers(x)[:, 0]


def _build(scaled):
    torch.manual_seed(1158)
    effects = [torch.randn(n) for n in SORTS]
    slope = torch.randn(NUMBERS) / 2
    sorts = torch.stack([torch.randint(0, n, (64 * 140,)) for n in SORTS], 1)
    numbers = torch.randn(64 * 140, NUMBERS)
    amount = numbers @ slope + torch.tanh(numbers[:, 0] * numbers[:, 1])
    for i, effect in enumerate(effects):
        amount = amount + effect[sorts[:, i]]
    amount = 420 + 70 * amount + 20 * torch.randn(len(amount))
    if scaled:
        amount = (amount - amount.mean()) / amount.std()
    batches = [
        ((s, n), y)
        for s, n, y in zip(
            sorts.split(64), numbers.split(64), amount.split(64), strict=True
        )
    ]
    model = Tabular()
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    return dict(model=model, loss_fn=F.mse_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
