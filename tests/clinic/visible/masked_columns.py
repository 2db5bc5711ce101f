"""The pretraining loss of a table divides each squared error by the variance of its
column within the batch, and by the mean where the variance is zero. A rare flag with
a small negative mean makes the loss fall without an end."""

import torch
from torch import nn

CAUSE = "objective_out_of_reach"
ALSO_OK = {"loss_numerics", "loss_terms_unbalanced", "bad_data"}
SOURCE = "https://github.com/dreamquark-ai/tabnet/issues/515"
FIX = "divide by 1 where the variance is zero"

COLUMNS = 12


class Pretrainer(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(COLUMNS, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, COLUMNS)
        )

    def forward(self, x, hidden):
        return self.decoder(self.encoder(x * (1 - hidden)))


def _unsupervised(out, x, hidden, fill):
    errors = ((out - x) * hidden).square()
    variance = x.var(0)
    variance = torch.where(variance == 0, fill(x), variance)
    features = (errors / variance).sum(1)
    return (features / (hidden.sum(1) + 1e-9)).mean()


def _mean(x):
    mean = x.mean(0)
    return torch.where(mean == 0, torch.ones_like(mean), mean)


def _one(x):
    return torch.ones(x.shape[1])


def _table(n, to_columns):
    latent = torch.randn(n, 3)
    x = latent @ to_columns + 0.2 * torch.randn(n, COLUMNS)
    rare = (torch.rand(n) < 0.002).float()
    x[:, -1] = rare * 16 - 0.03125
    return x


def _build(fill):
    torch.manual_seed(515)
    to_columns = torch.randn(3, COLUMNS) * 0.6
    batches = []
    for _ in range(150):
        x = _table(128, to_columns)
        batches.append((x, (torch.rand_like(x) < 0.3).float()))
    model = Pretrainer()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)

    def loss(model, batch):
        x, hidden = batch
        return _unsupervised(model(x, hidden), x, hidden, fill)

    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(_mean)


def make_fixed():
    return _build(_one)
