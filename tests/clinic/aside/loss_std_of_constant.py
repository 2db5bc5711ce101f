import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/pytorch/pytorch/issues/4320"
FIX = "sqrt(var + eps) instead of std"


class Standardize(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good

    def forward(self, h):
        c = h - h.mean(1, keepdim=True)
        return (
            c / torch.sqrt(h.var(1, keepdim=True) + 1e-5)
            if self.good
            else c / (c.pow(2).mean(1, keepdim=True).sqrt() + 1e-5)
        )


class Net(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.inp = nn.Linear(8, 32, bias=False)
        self.norm = Standardize(good)
        self.out = nn.Linear(32, 2)

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.inp(x))))


def _build(good):
    torch.manual_seed(111)
    v = torch.randn(8, 2) / 2
    batches = []
    for i in range(60):
        x = torch.randn(16, 8)
        if i % 25 == 13:
            x[3] = 0.0  # padding
        batches.append((x, torch.tanh(x @ v)))
    model = Net(good)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
