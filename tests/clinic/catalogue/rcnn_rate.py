"""A small two-stage detector without normalization starts with a learning rate a
hundred times that of its later, working run. The total loss is not a number within the
first twenty iterations."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = {"warmup_missing"}
SOURCE = "https://github.com/endernewton/tf-faster-rcnn/issues/458"
FIX = "a hundredth of the learning rate"

GRID = 6
CELL = 4


class FasterRCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
        )
        self.rpn = nn.Conv2d(32, 32, 3, padding=1)
        self.rpn_cls = nn.Conv2d(32, 1, 1)
        self.rpn_box = nn.Conv2d(32, 4, 1)
        self.fc = nn.Linear(32, 64)
        self.cls = nn.Linear(64, 4)
        self.box = nn.Linear(64, 4)

    def loss(self, batch):
        images, cell, label, box = batch
        features = self.head(images)
        rpn = F.relu(self.rpn(features))
        score = self.rpn_cls(rpn).flatten(1)
        objectness = F.one_hot(cell, GRID * GRID).float()
        rpn_loss_cls = F.binary_cross_entropy_with_logits(score, objectness)
        row = torch.arange(len(images))
        at_cell = self.rpn_box(rpn).flatten(2)[row, :, cell]
        rpn_loss_box = F.smooth_l1_loss(at_cell, box)
        pooled = F.relu(self.fc(features.flatten(2)[row, :, cell]))
        loss_cls = F.cross_entropy(self.cls(pooled), label)
        loss_box = F.smooth_l1_loss(self.box(pooled), box)
        return 4 * rpn_loss_cls + rpn_loss_box + loss_cls + loss_box


def _batch(patterns, count=20):
    side = GRID * CELL
    images = 0.4 * torch.randn(count, 1, side, side)
    cell = torch.randint(GRID * GRID, (count,))
    label = torch.randint(4, (count,))
    box = torch.rand(count, 4) * 2 - 1
    for i in range(count):
        top = int(cell[i]) // GRID * CELL
        left = int(cell[i]) % GRID * CELL
        quarters = box[i].view(2, 2).repeat_interleave(2, 0).repeat_interleave(2, 1)
        patch = patterns[label[i]] + 2 * quarters
        images[i, 0, top : top + CELL, left : left + CELL] += patch
    return images, cell, label, box


def _build(lr):
    torch.manual_seed(4580)
    patterns = 2 * torch.randn(4, CELL, CELL) + 1
    batches = [_batch(patterns) for _ in range(120)]
    model = FasterRCNN()
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    return dict(
        model=model,
        loss=lambda model, batch: model.loss(batch),
        optimizer=opt,
        batches=batches,
    )


def make():
    return _build(4.0)


def make_fixed():
    return _build(0.04)
