import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/mpariente/pytorch_stoi/issues/7"
FIX = "sqrt(x + eps): the slope of sqrt at 0 is infinite"


class Distance(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, x):
        return self.net(x[:, 0]) - self.net(x[:, 1])


def _build(good):
    torch.manual_seed(13)
    eps = 1e-8 if good else 0.0

    def loss_fn(out, y):
        return ((torch.sqrt((out**2).sum(1) + eps) - y) ** 2).mean()

    batches = []
    for i in range(60):
        x = torch.randn(32, 2, 12)
        y = (x[:, 0] - x[:, 1]).norm(dim=1) / 4
        if i in (11, 30, 31):
            x[5, 1], y[5] = x[5, 0], 0.0  # the same signal twice
        batches.append((x, y))
    model = Distance()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
