import torch
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "nothing: a density can exceed one, so its loss goes below zero"


class Coupling(nn.Module):
    def __init__(self, flip):
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 4))

    def forward(self, x):
        a, b = x.chunk(2, 1)
        if self.flip:
            a, b = b, a
        shift, scale = self.net(a).chunk(2, 1)
        scale = torch.tanh(scale)
        b = b * scale.exp() + shift
        return torch.cat([b, a] if self.flip else [a, b], 1), scale.sum(1)


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleList(Coupling(i % 2 == 1) for i in range(6))

    def forward(self, x):
        total = 0
        for step in self.steps:
            x, log_det = step(x)
            total = total + log_det
        return x, total


def loss(model, batch):
    z, log_det = model(batch[0])
    return (0.5 * z.pow(2).sum(1) - log_det).mean()


def _build():
    torch.manual_seed(121)
    mixing = 0.1 * torch.randn(2, 4)
    batches = []
    for _ in range(60):
        x = torch.randn(64, 2) @ mixing + 0.02 * torch.randn(64, 4)
        batches.append((x, x))
    model = Flow()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, optimizer=opt, batches=batches, loss=loss)


def make():
    return _build()


make_fixed = make
