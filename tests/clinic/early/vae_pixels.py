"""Sprites of a home-made set go into a beta-VAE as bytes, 0 to 255. The variance of
the code, an exponential, explodes: the loss is astronomical at first, and NaN within
a few steps."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unnormalized_input"
ALSO_OK = {"unscaled_target", "loss_numerics"}
SOURCE = "https://github.com/wohlert/semi-supervised-pytorch/issues/9"
FIX = "divide the pixels by 255"

SIDE = 12
LATENT = 6


class VAE(nn.Module):
    def __init__(self, pixels, hidden=96):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.mu = nn.Linear(hidden, LATENT)
        self.log_var = nn.Linear(hidden, LATENT)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, pixels),
            nn.Sigmoid(),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = self.encoder(x)
        mu, log_var = self.mu(x), F.softplus(self.log_var(x))
        z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
        kl = 0.5 * (mu**2 + torch.exp(log_var) - 1 - log_var).sum(1)
        return self.decoder(z), kl


def _loss(model, x, beta=0.5):
    r, kl = model(x)
    cross = -(x * torch.log(r + 1e-8) + (1 - x) * torch.log(1 - r + 1e-8)).sum(1)
    return (cross + beta * kl).mean()


def _sprites(count):
    images = torch.zeros(count, SIDE, SIDE)
    place = torch.randint(0, SIDE - 5, (count, 2)).tolist()
    size = torch.randint(3, 6, (count,)).tolist()
    for image, (top, left), edge in zip(images, place, size, strict=True):
        image[top : top + edge, left : left + edge] = 255.0
    return images.view(count, -1)


def _build(scale):
    torch.manual_seed(909)
    batches = [_sprites(64) / scale for _ in range(120)]
    model = VAE(SIDE * SIDE)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(1.0)


def make_fixed():
    return _build(255.0)
