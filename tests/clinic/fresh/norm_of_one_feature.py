"""Layer norm over the only feature of a series turns every value into zero."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "wrong_axis"
ALSO_OK = {"representation_collapse", "batchnorm_misuse"}
SOURCE = "https://github.com/pytorch/pytorch/issues/108956"
FIX = "embed the value first, and normalize the embedding"


class Forecast(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.enter = nn.Linear(1, 24)
        self.norm = nn.LayerNorm(24 if good else 1)
        self.rnn, self.head = nn.GRU(24, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, series):
        h = (
            self.norm(self.enter(series))
            if self.good
            else self.enter(self.norm(series))
        )
        return self.head(self.rnn(h)[0][:, -1])


def _build(good):
    torch.manual_seed(920)
    batches = []
    for _ in range(100):
        phase, speed = 6.3 * torch.rand(32, 1), 0.2 + 0.4 * torch.rand(32, 1)
        wave = torch.sin(phase + speed * torch.arange(25)) + 0.05 * torch.randn(32, 25)
        batches.append((wave[:, :24, None], wave[:, 24:]))
    model = Forecast(good)
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(
        model=model, loss_fn=F.mse_loss, optimizer=opt, batches=batches, clip=1.0
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
