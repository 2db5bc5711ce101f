"""Masks of a home-made set are loaded as 0 and 255 for a U-Net with binary cross-
entropy. The loss falls far below zero, which it never should, and freezes there with
every pixel called foreground."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unscaled_target"
ALSO_OK = {"saturated_activation", "objective_out_of_reach", "loss_numerics"}
SOURCE = "https://github.com/milesial/Pytorch-UNet/issues/78"
FIX = "divide the masks by 255"

SIZE = 24


def _double(inside, outside):
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
        nn.Conv2d(outside, outside, 3, padding=1),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )


class UNet(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.top = _double(1, width)
        self.low = _double(width, 2 * width)
        self.back = _double(3 * width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        top = self.top(x)
        low = F.interpolate(self.low(F.max_pool2d(top, 2)), scale_factor=2.0)
        return torch.sigmoid(self.out(self.back(torch.cat([top, low], 1))))


def _cross(p, y):
    yes, no = torch.log(p + 1e-12), torch.log(1 - p + 1e-12)
    return -(y * yes + (1 - y) * no).mean()


def _pictures(count):
    axis = torch.arange(SIZE).float()
    center = 5 + (SIZE - 10) * torch.rand(count, 2, 1, 1)
    radius = 3 + 4 * torch.rand(count, 1, 1)
    away = (axis[:, None] - center[:, 0]) ** 2 + (axis - center[:, 1]) ** 2
    mask = (away < radius**2).float()[:, None]
    image = 0.8 * mask + 0.5 * torch.randn(count, 1, SIZE, SIZE)
    return image, 255 * mask


def _build(scale):
    torch.manual_seed(7878)
    batches = []
    for _ in range(110):
        image, mask = _pictures(8)
        batches.append((image, mask / scale))
    model = UNet()
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    return dict(model=model, loss_fn=_cross, optimizer=opt, batches=batches)


def make():
    return _build(1.0)


def make_fixed():
    return _build(255.0)
