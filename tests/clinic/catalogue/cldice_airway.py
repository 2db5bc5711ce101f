"""A segmentation with one output channel is trained by a Dice and centerline-Dice loss
that passes over channel 0 as background. The loss is 0.000 from the start, and the
network does not change."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_masked"
ALSO_OK = set()
SOURCE = "https://github.com/Project-MONAI/MONAI/issues/8239"
FIX = "give the loss two channels, background and airway"

SIDE = 20


class AirwayNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.GroupNorm(3, 12), nn.ReLU()
        )
        self.deep = nn.Sequential(
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1),
            nn.GroupNorm(3, 24),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
        )
        self.up = nn.Sequential(
            nn.Conv2d(36, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 1, 1)
        )

    def forward(self, x):
        x = self.down(x)
        return self.up(torch.cat((x, self.deep(x)), 1))


def _erode(x):
    tall = -F.max_pool2d(-x, (3, 1), 1, (1, 0))
    wide = -F.max_pool2d(-x, (1, 3), 1, (0, 1))
    return torch.minimum(tall, wide)


def _open(x):
    return F.max_pool2d(_erode(x), 3, 1, 1)


def _skeleton(x, rounds=3):
    skeleton = F.relu(x - _open(x))
    for _ in range(rounds):
        x = _erode(x)
        delta = F.relu(x - _open(x))
        skeleton = skeleton + F.relu(delta - skeleton * delta)
    return skeleton


def _overlap(part, whole, smooth):
    part, whole = part[:, 1:], whole[:, 1:]
    return ((part * whole).sum() + smooth) / (part.sum() + smooth)


def soft_dice_cldice(pred, true, smooth=1.0, alpha=0.5):
    both = 2 * (pred * true)[:, 1:].sum() + smooth
    dice = 1 - both / (pred[:, 1:].sum() + true[:, 1:].sum() + smooth)
    precision = _overlap(_skeleton(pred), true, smooth)
    recall = _overlap(_skeleton(true), pred, smooth)
    cldice = 1 - 2 * precision * recall / (precision + recall)
    return (1 - alpha) * dice + alpha * cldice


def _one(output, target):
    return soft_dice_cldice(output.sigmoid(), target)


def _two(output, target):
    pred = output.sigmoid()
    pred = torch.cat((1 - pred, pred), 1)
    return soft_dice_cldice(pred, torch.cat((1 - target, target), 1))


def _batch(count=10):
    target = torch.zeros(count, 1, SIDE, SIDE)
    for mask in target:
        x = int(torch.randint(5, 13, ()))
        for y in range(SIDE):
            mask[0, y, x : x + 3] = 1
            x = min(max(x + int(torch.randint(-1, 2, ())), 1), SIDE - 4)
    return 1.5 * target + torch.randn(count, 1, SIDE, SIDE), target


def _build(loss_fn):
    torch.manual_seed(8239)
    batches = [_batch() for _ in range(120)]
    model = AirwayNet()
    opt = torch.optim.Adam(model.parameters(), lr=6e-3)
    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(_one)


def make_fixed():
    return _build(_two)
