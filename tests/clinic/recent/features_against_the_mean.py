"""A sparse autoencoder gets activations whose mean is many times their spread.
Most features point away from the mean and never fire; of the others many always do."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unnormalized_input"
ALSO_OK = {"dead_relu", "unscaled_target"}
SOURCE = "https://github.com/AkihikoWatanabe/paper_notes/issues/5822"
FIX = "take the mean off the activations"


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(24, 96)
        self.outside = nn.Linear(96, 24)

    def forward(self, x):
        features = F.relu(self.inside(x))
        return self.outside(features), features


def _loss(model, batch):
    again, features = model(batch)
    return F.mse_loss(again, batch) + 0.01 * features.abs().sum(1).mean()


def _build(good):
    torch.manual_seed(2122)
    directions = torch.randn(48, 24) / 2
    mean = torch.zeros(24)
    mean[torch.randperm(24)[:6]] = torch.tensor([60.0, -45.0, 80.0, 30.0, -70.0, 50.0])
    chosen = (torch.rand(12800, 48) < 0.08) * torch.rand(12800, 48) * 2
    x = chosen @ directions
    x = x / x.std() + mean
    if good:
        x = x - x.mean(0)
    model = Sparse()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=list(x.split(64)))


def make():
    return _build(False)


def make_fixed():
    return _build(True)
