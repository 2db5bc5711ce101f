"""A detector that finds the centers of objects is trained by a rewritten loop that
never clears the gradients. The loss falls at first, then it grows and stays high."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "missing_zero_grad"
ALSO_OK = set()
SOURCE = "https://github.com/xingyizhou/CenterNet/issues/928"
FIX = "call optimizer.zero_grad() after optimizer.step()"

CLASSES, GRID = 3, 8


class CenterNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 24, 3, 1, 1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, 2, 1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, 1, 1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.heat = nn.Conv2d(32, CLASSES, 1)
        self.size = nn.Conv2d(32, 2, 1)
        nn.init.constant_(self.heat.bias, -2.19)

    def forward(self, x):
        x = self.body(x)
        return self.heat(x).sigmoid().clamp(1e-4, 1 - 1e-4), self.size(x)


def _focal(heat, target):
    peak = target.eq(1).float()
    found = torch.log(heat) * (1 - heat).square() * peak
    empty = torch.log(1 - heat) * heat.square() * (1 - target) ** 4 * (1 - peak)
    return -(found.sum() + empty.sum()) / peak.sum()


def _scenes(n):
    cls = torch.randint(0, CLASSES, (n,))
    cy, cx = torch.randint(0, GRID, (2, n))
    size = torch.rand(n, 2) * 5 + 3
    grid = torch.arange(2 * GRID).float() + 0.5
    tall = (grid[None] - (2 * cy + 1)[:, None]).abs() < size[:, :1] / 2
    wide = (grid[None] - (2 * cx + 1)[:, None]).abs() < size[:, 1:] / 2
    images = torch.randn(n, 3, 2 * GRID, 2 * GRID) * 0.2
    images[torch.arange(n), cls] += (tall[:, :, None] & wide[:, None]) * 1.5
    cells = torch.arange(GRID)
    far = (cells[None, :, None] - cy[:, None, None]) ** 2 + (
        cells[None, None] - cx[:, None, None]
    ) ** 2
    target = torch.zeros(n, CLASSES, GRID, GRID)
    target[torch.arange(n), cls] = torch.exp(-far / 1.5)
    return images, target, cy, cx, size


def _build(clear):
    torch.manual_seed(928)
    batches = [_scenes(24) for _ in range(120)]
    model = CenterNet()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)

    def step(batch):
        images, target, cy, cx, size = batch
        heat, box = model(images)
        loss = _focal(heat, target)
        loss = loss + 0.1 * F.l1_loss(box[torch.arange(len(size)), :, cy, cx], size)
        loss.backward()
        opt.step()
        if clear:
            opt.zero_grad()
        return loss.detach()

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
