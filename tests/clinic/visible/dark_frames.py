"""The color loss of a low-light enhancer takes the root of a sum of squares, which is
zero for an all black frame. The gradient of the root is infinite there, and the loss
is NaN after the first such frame."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"bad_data"}
SOURCE = "https://github.com/Li-Chongyi/Zero-DCE_extension/issues/2"
FIX = "add 1e-5 under the root of the color loss"

ITERATIONS = 4


class EnhanceNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(16, 3, 3, 1, 1),
            nn.Tanh(),
        )

    def forward(self, x):
        curve = self.net(x)
        for _ in range(ITERATIONS):
            x = x + curve * (x.square() - x)
        return x, curve


class ColorLoss(nn.Module):
    def __init__(self, eps):
        super().__init__()
        self.eps = eps

    def forward(self, x):
        r, g, b = x.mean((2, 3)).unbind(1)
        total = (r - g).pow(2).pow(2) + (r - b).pow(2).pow(2) + (g - b).pow(2).pow(2)
        return torch.pow(total + self.eps, 0.5).mean()


def _variation(curve):
    down = (curve[:, :, 1:] - curve[:, :, :-1]).square().mean()
    right = (curve[:, :, :, 1:] - curve[:, :, :, :-1]).square().mean()
    return down + right


def _exposure(x):
    bright = F.avg_pool2d(x.mean(1, keepdim=True), 4)
    return (bright - 0.6).square().mean()


def _structure(x, light):
    before = F.avg_pool2d(x.mean(1, keepdim=True), 4)
    after = F.avg_pool2d(light.mean(1, keepdim=True), 4)
    down = before.diff(dim=2) - after.diff(dim=2)
    right = before.diff(dim=3) - after.diff(dim=3)
    return down.square().mean() + right.square().mean()


def _frames(n):
    base = F.interpolate(torch.rand(n, 3, 4, 4), size=16, mode="bilinear")
    dark = torch.rand(n, 1, 1, 1) * 0.3 + 0.1
    frames = (base * dark + 0.01 * torch.randn(n, 3, 16, 16)).clamp(0, 1)
    lens_closed = torch.rand(n) < 0.006
    frames[lens_closed] = 0
    return frames


def _build(eps):
    torch.manual_seed(311)
    batches = [_frames(8) for _ in range(140)]
    model = EnhanceNet()
    color = ColorLoss(eps)

    def loss(model, x):
        light, curve = model(x)
        return (
            10 * _exposure(light)
            + 5 * color(light)
            + _structure(x, light)
            + 20 * _variation(curve)
        )

    opt = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches, clip=0.1)


def make():
    return _build(0.0)


def make_fixed():
    return _build(1e-5)
