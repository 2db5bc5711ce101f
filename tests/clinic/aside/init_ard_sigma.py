import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "init_too_large"
ALSO_OK = set()
SOURCE = "https://github.com/HolyBayes/pytorch_ard/issues/2"
FIX = "start log sigma at -5 instead of 2"


class Noisy(nn.Module):
    def __init__(self, n, m, start):
        super().__init__()
        self.mu = nn.Parameter(torch.randn(m, n) / n**0.5)
        self.log_sigma = nn.Parameter(torch.full((m, n), start))
        self.bias = nn.Parameter(torch.zeros(m))

    def forward(self, x):
        mean = F.linear(x, self.mu, self.bias)
        std = torch.sqrt(F.linear(x**2, torch.exp(2 * self.log_sigma)) + 1e-8)
        return mean + std * torch.randn_like(std)


def _build(good):
    torch.manual_seed(102)
    protos = torch.randn(5, 30)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 5, (32,))
        batches.append((protos[y] + 0.7 * torch.randn(32, 30), y))
    start = -5.0 if good else 2.0
    model = nn.Sequential(Noisy(30, 48, start), nn.ReLU(), Noisy(48, 5, start))
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
