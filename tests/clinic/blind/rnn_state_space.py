import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "recurrent_explosion"
ALSO_OK = set()
SOURCE = "github.com/horenbergerb/BernoulliDiffusion/issues/15 (same kind)"
FIX = "eigenvalues inside the unit circle"


class StateSpace(nn.Module):
    def __init__(self, radius):
        super().__init__()
        self.a = nn.Parameter(radius * torch.linspace(0.97, 1.0, 24))
        self.b, self.c = nn.Linear(1, 24, bias=False), nn.Linear(24, 1)

    def forward(self, x):
        h = torch.zeros(x.shape[0], 24)
        for t in range(x.shape[1]):
            h = self.a * h + 0.1 * self.b(x[:, t])
        return self.c(h).squeeze(1)


def _build(good):
    torch.manual_seed(109)
    batches = []
    for _ in range(60):
        x = torch.randn(16, 100, 1)
        batches.append((x, x[:, -10:, 0].mean(1)))
    model = StateSpace(0.9 if good else 1.12)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(
        model=model,
        loss_fn=F.mse_loss,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
