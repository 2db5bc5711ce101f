"""A small fully convolutional net for segmentation, with the learning rate of a paper
whose loss is a mean, and a cross entropy that is a sum over pixels. The loss is NaN."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "sum_reduction"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://github.com/wkentaro/pytorch-fcn/issues/17"
FIX = "average the cross entropy over the pixels, or divide the rate by their number"

CLASSES, SIDE = 5, 32


class Fcn(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage1 = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.stage2 = nn.Sequential(
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.score1 = nn.Conv2d(16, CLASSES, 1)
        self.score2 = nn.Conv2d(32, CLASSES, 1)

    def forward(self, x):
        fine = self.stage1(x)
        coarse = F.interpolate(self.score2(self.stage2(fine)), scale_factor=2)
        return F.interpolate(self.score1(fine) + coarse, scale_factor=2)


def cross_entropy2d(score, target, size_average):
    log_p = F.log_softmax(score, 1).permute(0, 2, 3, 1).reshape(-1, CLASSES)
    loss = F.nll_loss(log_p, target.reshape(-1), reduction="sum")
    if size_average:
        loss = loss / target.numel()
    return loss


def _build(good):
    torch.manual_seed(4105)
    paint = torch.randn(CLASSES, 3)
    batches = []
    for _ in range(120):
        y = torch.zeros(2, SIDE, SIDE, dtype=torch.long)
        for i in range(2):
            for _ in range(5):
                top, left = torch.randint(0, SIDE - 8, (2,)).tolist()
                h, w = torch.randint(6, 16, (2,)).tolist()
                y[i, top : top + h, left : left + w] = int(torch.randint(CLASSES, (1,)))
        x = paint[y].permute(0, 3, 1, 2) + 0.8 * torch.randn(2, 3, SIDE, SIDE)
        batches.append((x, y))
    model = Fcn()
    opt = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9, weight_decay=5e-4)

    def loss_fn(score, target):
        return cross_entropy2d(score, target, size_average=good)

    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
