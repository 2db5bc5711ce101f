import torch
from torch import nn

CAUSE = "recurrent_explosion"
ALSO_OK = {"init_too_large"}
SOURCE = "https://github.com/batzner/indrnn/issues/19"
FIX = "bound the recurrent weights by 1 (2 ** (1 / steps)) or normalize"


class IndRNN(nn.Module):
    def __init__(self, n, h, good):
        super().__init__()
        self.inp = nn.Linear(n, h)
        self.u = nn.Parameter(torch.rand(h) * (1.0 if good else 1.3))
        self.out = nn.Linear(h, 1)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], self.u.shape[0])
        for t in range(x.shape[1]):
            h = torch.relu(self.inp(x[:, t]) + self.u * h)
        return self.out(h)


def _build(good):
    torch.manual_seed(8)
    batches = []
    for _ in range(60):
        x = torch.rand(32, 60, 2)
        x[..., 1] = (torch.rand(32, 60) < 0.05).float()
        batches.append((x, (x[..., 0] * x[..., 1]).sum(1, keepdim=True) / 3))
    model = IndRNN(2, 32, good)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
