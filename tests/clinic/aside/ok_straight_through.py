import torch
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "nothing to fix: the straight-through estimator rounds on purpose"


class Quantised(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 8))
        self.dec = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 16))

    def forward(self, x):
        z = 2 * self.enc(x)
        return self.dec(z + (torch.round(z) - z).detach())


def make():
    torch.manual_seed(125)
    mix = torch.randn(4, 16) / 2
    batches = []
    for _ in range(80):
        x = torch.randn(32, 4) @ mix
        batches.append((x, x))
    model = Quantised()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


make_fixed = make
