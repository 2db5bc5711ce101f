"""A recurrent forecaster on an hourly series read from a file, with a few gaps in it.
The loss is NaN straight from the beginning, whatever the settings."""

import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = set()
SOURCE = "https://github.com/unit8co/darts/issues/881"
FIX = "fill the missing values before training"

CHUNK = 24


class RnnModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(1, 25, batch_first=True)
        self.out = nn.Linear(25, 1)

    def forward(self, x):
        hidden, _ = self.rnn(x)
        return self.out(hidden)


def read_series():
    hours = torch.arange(1500, dtype=torch.float32)
    day = torch.sin(2 * math.pi * hours / 24)
    week = torch.sin(2 * math.pi * hours / 168)
    series = 30 + 8 * day + 4 * week + 1.5 * torch.randn(1500)
    lost = torch.rand(1500) < 0.03
    series[lost] = float("nan")
    return series


def fill(series):
    series = series.clone()
    for i in range(len(series)):
        if torch.isnan(series[i]):
            series[i] = series[i - 1] if i else torch.nanmean(series)
    return series


def scale(series):
    known = series[~torch.isnan(series)]
    low, high = known.min(), known.max()
    return (series - low) / (high - low)


def _build(good):
    torch.manual_seed(4107)
    series = read_series()
    if good:
        series = fill(series)
    series = scale(series)
    windows = series.unfold(0, CHUNK + 1, 1)
    batches = []
    for _ in range(150):
        rows = windows[torch.randint(0, len(windows), (32,))]
        batches.append((rows[:, :-1, None], rows[:, 1:, None]))
    model = RnnModel()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss_fn=F.mse_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
