"""A few annotated boxes of an aerial data set have a height of zero, and the target
is the logarithm of the height. The loss is NaN from the first batch on that holds
such a box."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/zhpmatrix/VisDrone2018/issues/1"
FIX = "leave out the annotations whose width or height is zero"

CLASSES = 4


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 9, 64),
            nn.ReLU(),
        )
        self.score = nn.Linear(64, CLASSES)
        self.box = nn.Linear(64, 4)

    def forward(self, x):
        x = self.body(x)
        return self.score(x), self.box(x)


def _encode(box):
    center = (box[:, :2] + box[:, 2:] / 2 - 12) / 8
    return torch.cat([center, torch.log(box[:, 2:] / 8)], 1) / 0.2


def _smooth_l1(out, target):
    gap = (out - target).abs()
    near = (gap < 1).float()
    return (near * 0.5 * gap**2 + (1 - near) * (gap - 0.5)).sum(1).mean()


def _loss(model, batch):
    image, label, box = batch
    score, out = model(image)
    return F.cross_entropy(score, label) + _smooth_l1(out, _encode(box))


def _scenes(n):
    label = torch.randint(0, CLASSES, (n,))
    size = torch.rand(n, 2) * 8 + 4
    corner = torch.rand(n, 2) * (24 - size)
    grid = torch.arange(24).float() + 0.5
    high = corner + size
    tall = (grid[None] > corner[:, :1]) & (grid[None] < high[:, :1])
    wide = (grid[None] > corner[:, 1:]) & (grid[None] < high[:, 1:])
    colors = torch.tensor([[2.0, 0, 0], [0, 2, 0], [0, 0, 2], [1.5, 1.5, 0]])
    image = torch.randn(n, 3, 24, 24) * 0.3
    image += (tall[:, :, None] & wide[:, None])[:, None] * colors[label][
        :, :, None, None
    ]
    flat = torch.rand(n) < 0.0012
    size = torch.where(flat[:, None], size * torch.tensor([0.0, 1.0]), size)
    return image, label, torch.cat([corner, size], 1)


def _valid(batch):
    keep = (batch[2][:, 2:] > 0).all(1)
    return tuple(part[keep] for part in batch)


def _build(check):
    torch.manual_seed(2028)
    batches = [_scenes(32) for _ in range(120)]
    if check:
        batches = [_valid(batch) for batch in batches]
    model = Head()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
