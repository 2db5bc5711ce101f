import copy

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test: a predictor and an averaged teacher do not collapse"
FIX = "nothing to fix"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))
        self.guess = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, x):
        return self.guess(self.body(x))


def make():
    torch.manual_seed(545)
    model = Net()
    teacher = copy.deepcopy(model.body).requires_grad_(False)
    batches = []
    for _ in range(100):
        x = torch.randn(64, 16)
        batches.append((x, x + 0.1 * torch.randn(64, 16)))
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)

    def step(batch):
        with torch.no_grad():
            target = F.normalize(teacher(batch[1]), dim=-1)
        loss = 2 - 2 * (F.normalize(model(batch[0]), dim=-1) * target).sum(-1).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        with torch.no_grad():
            for old, new in zip(
                teacher.parameters(), model.body.parameters(), strict=True
            ):
                old.lerp_(new, 0.01)
        return loss

    return dict(model=model, step=step, optimizer=opt, batches=batches)


make_fixed = make
