"""A Cox network on a public table of patients, with the columns as the table has them.
The first loss is far too large or NaN already, all later ones are NaN."""

import torch
from torch import nn

CAUSE = "unnormalized_input"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/jaredleekatzman/DeepSurv/issues/14"
FIX = "bring every column to the range 0 to 1"


class DeepSurv(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
        )

    def forward(self, x):
        return self.net(x).squeeze(1)


def read_table(count):
    age = (55 + 12 * torch.randn(count)).clamp(18, 95)
    day = 8000 + 3000 * torch.rand(count)
    marker = torch.exp(0.5 * torch.randn(count))
    sex = torch.randint(0, 2, (count,)).float()
    clinic = torch.randint(1, 5, (count,)).float()
    risk = 0.12 * (age - 55) + 1.2 * (marker - 1) - 1.5 * sex - (day - 9500) / 1200
    time = 900 * torch.empty(count).exponential_() * torch.exp(-risk)
    censor = 4000 * torch.rand(count)
    event = (time <= censor).float()
    columns = torch.stack([age, day, marker, sex, clinic], 1).double()
    return columns, torch.min(time, censor), event.double()


def _loss(model, batch):
    x, event = batch
    risk = model(x)
    log_risk = torch.log(torch.cumsum(torch.exp(risk), 0))
    return -((risk - log_risk) * event).sum() / event.sum()


def _build(good):
    torch.manual_seed(4114)
    table, time, event = read_table(2000)
    if good:
        low, high = table.amin(0), table.amax(0)
        table = (table - low) / (high - low)
    batches = []
    for _ in range(120):
        rows = torch.randperm(2000)[:256]
        rows = rows[time[rows].argsort(descending=True)]
        batches.append((table[rows], event[rows]))
    model = DeepSurv().double()
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
