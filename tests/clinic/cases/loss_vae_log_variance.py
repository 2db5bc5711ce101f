import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/vanderschaarlab/synthcity/issues/331"
FIX = "clamp the log variance before exp"


class VAE(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 8))
        self.dec = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 16))
        self.good = good

    def loss(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        if self.good:
            logvar = logvar.clamp(-8, 4)
        z = mu + torch.randn_like(mu) * torch.exp(logvar / 2)
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
        return F.smooth_l1_loss(self.dec(z), x) + 0.01 * kl


def _build(good):
    torch.manual_seed(15)
    mix = torch.randn(4, 16) / 2
    batches = []
    for i in range(80):
        x = torch.randn(32, 4) @ mix + 0.1 * torch.randn(32, 16)
        if i % 20 == 9:
            x[0] *= 9000  # a heavy-tailed column
        batches.append((x, x))
    model = VAE(good)
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    return dict(
        model=model,
        loss=lambda m, b: m.loss(b[0]),
        optimizer=opt,
        batches=batches,
        clip=1.0,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
