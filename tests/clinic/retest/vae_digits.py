"""The reconstruction is averaged over the pixels, while the divergence is summed over
the latent variables and far too heavy beside it. The code is given up, every place of
the latent space is decoded to the same picture, and the loss stands still at that of
the mean picture."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_terms_unbalanced"
ALSO_OK = {"representation_collapse"}
SOURCE = "https://github.com/keras-team/keras/pull/3383"
FIX = (
    "multiply the reconstruction by the number of pixels, to match the size of the "
    "divergence"
)

PIXELS = 100


class Vae(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = nn.Sequential(nn.Linear(PIXELS, 64), nn.ReLU())
        self.z_mean, self.z_log_var = nn.Linear(64, 4), nn.Linear(64, 4)
        self.decode = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, PIXELS))

    def forward(self, x):
        h = self.h(x)
        mean, log_var = self.z_mean(h), self.z_log_var(h)
        z = mean + torch.randn_like(mean) * (log_var / 2).exp()
        return self.decode(z).sigmoid(), mean, log_var


def _vae_loss(weight):
    def loss(model, batch):
        decoded, mean, log_var = model(batch)
        xent = weight * F.binary_cross_entropy(decoded, batch)
        kl = -0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum(1).mean()
        return xent + kl

    return loss


def _build(weight):
    torch.manual_seed(4110)
    looks = (torch.rand(8, PIXELS) < 0.5).float()
    batches = []
    for _ in range(140):
        x = looks[torch.randint(8, (100,))]
        flips = (torch.rand(100, PIXELS) < 0.03).float()
        batches.append((x - flips).abs())
    model = Vae()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_vae_loss(weight), optimizer=opt, batches=batches)


def make():
    return _build(1.0)


def make_fixed():
    return _build(float(PIXELS))
