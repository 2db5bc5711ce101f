"""A detector is trained on one card with a learning rate far too large for its small
batches. The box loss grows within the first steps and becomes NaN."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = {"warmup_missing"}
SOURCE = "https://github.com/roytseng-tw/Detectron.pytorch/issues/29"
FIX = "reduce the learning rate"

CLASSES = 4


class BoxHead(nn.Module):
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
        for layer in self.body:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
        for layer in (self.score, self.box):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = self.body(x)
        return self.score(x), self.box(x)


def _loss(model, batch):
    images, labels, deltas = batch
    score, box = model(images)
    return F.cross_entropy(score, labels) + F.smooth_l1_loss(box, deltas)


def _scene(n):
    labels = torch.randint(0, CLASSES, (n,))
    center = torch.rand(n, 2) * 12 + 6
    size = torch.rand(n, 2) * 8 + 4
    grid = torch.arange(24).float() + 0.5
    tall = (grid[None] - center[:, :1]).abs() < size[:, :1] / 2
    wide = (grid[None] - center[:, 1:]).abs() < size[:, 1:] / 2
    inside = (tall[:, :, None] & wide[:, None]).float()
    colors = torch.tensor([[2.0, 0, 0], [0, 2, 0], [0, 0, 2], [1.5, 1.5, 0]])
    images = (
        torch.randn(n, 3, 24, 24) * 0.3
        + inside[:, None] * colors[labels][:, :, None, None]
    )
    deltas = torch.cat([(center - 12) / 8 * 5, torch.log(size / 8) * 5], 1)
    return images, labels, deltas


def _build(base_lr):
    torch.manual_seed(29)
    batches = [_scene(16) for _ in range(120)]
    model = BoxHead()
    opt = torch.optim.SGD(
        model.parameters(), lr=base_lr, momentum=0.9, weight_decay=1e-4
    )
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(1.28)


def make_fixed():
    return _build(0.04)
