import torch
from torch import nn

CAUSE = "batchnorm_misuse"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/pytorch/pytorch/issues/1381"
FIX = "a batch of one has no variance: use more samples"


class BatchNorm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.ones(n)),
            nn.Parameter(torch.zeros(n)),
        )

    def forward(self, x):
        return self.weight * (x - x.mean(0)) / torch.sqrt(x.var(0) + 1e-5) + self.bias


def _build(good):
    torch.manual_seed(20)
    w = torch.randn(10, 1) / 3
    batches = []
    for _ in range(60):
        x = torch.randn(16 if good else 1, 10)
        batches.append((x, torch.tanh(x @ w)))
    model = nn.Sequential(nn.Linear(10, 32), BatchNorm(32), nn.ReLU(), nn.Linear(32, 1))
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
