import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_terms_unbalanced"
ALSO_OK = {"representation_collapse", "sum_reduction"}
SOURCE = "https://github.com/zdebruine/MMVAE/pull/19"
FIX = "sum the reconstruction over the features too, and divide both by the batch"


class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(30, 48), nn.ReLU(), nn.Linear(48, 8))
        self.decode = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 30))

    def forward(self, x):
        mean, log_var = self.encode(x).chunk(2, 1)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        return self.decode(z), mean, log_var


def _loss(good):
    def loss(model, x):
        out, mean, log_var = model(x)
        divergence = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum()
        if good:
            return (F.mse_loss(out, x, reduction="sum") + divergence) / len(x)
        return F.mse_loss(out, x) + divergence

    return loss


def _build(good):
    torch.manual_seed(714)
    mix = torch.randn(3, 30)
    batches = [torch.randn(64, 3) @ mix + 0.1 * torch.randn(64, 30) for _ in range(100)]
    model = Coder()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss(good), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
