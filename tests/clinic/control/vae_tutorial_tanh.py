"""A variational autoencoder from a tutorial whose decoder ends in the same activation
as its other layers, under a Bernoulli likelihood. The cost is NaN from the start."""

import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/pkmital/tensorflow_tutorials/issues/23"
FIX = "end the decoder in a sigmoid instead of a tanh"

SIDE, HIDDEN, CODE = 12, 64, 4


class Vae(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(SIDE * SIDE, HIDDEN),
            nn.Tanh(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.Tanh(),
        )
        self.mean = nn.Linear(HIDDEN, CODE)
        self.log_sigma = nn.Linear(HIDDEN, CODE)
        self.decoder = nn.Sequential(
            nn.Linear(CODE, HIDDEN),
            nn.Tanh(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.Tanh(),
            nn.Linear(HIDDEN, SIDE * SIDE),
            last,
        )

    def forward(self, x):
        h = self.encoder(x)
        mean, log_sigma = self.mean(h), 0.5 * self.log_sigma(h)
        z = mean + torch.randn_like(mean) * log_sigma.exp()
        return self.decoder(z), mean, log_sigma


def _loss(model, batch):
    y, mean, log_sigma = model(batch)
    fit = batch * torch.log(y + 1e-10) + (1 - batch) * torch.log(1 - y + 1e-10)
    kl = 1 + 2 * log_sigma - mean.square() - (2 * log_sigma).exp()
    return (-fit.sum(1) - 0.5 * kl.sum(1)).mean()


def _build(good):
    torch.manual_seed(4103)
    line = torch.arange(SIDE, dtype=torch.float32)
    batches = []
    for _ in range(150):
        at = 2 + 8 * torch.rand(64, 2)
        size = 2 + 2 * torch.rand(64, 1, 1)
        dy = (line.view(1, -1, 1) - at[:, :1, None]).abs()
        dx = (line.view(1, 1, -1) - at[:, 1:, None]).abs()
        spot = torch.sigmoid(4 * (size - torch.max(dy, dx)))
        batches.append(spot.flatten(1))
    model = Vae(nn.Sigmoid() if good else nn.Tanh())
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
