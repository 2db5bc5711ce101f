"""A small detector learns from annotations in which a few boxes have their right edge
left of the left one. After some steps the box loss is not a number."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/pytorch/vision/issues/997"
FIX = "leave out annotations whose box has no positive width and height"

SIZE = 20


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 25, 64),
            nn.ReLU(),
        )
        self.label = nn.Linear(64, 3)
        self.delta = nn.Linear(64, 4)
        self.register_buffer("proposal", torch.tensor([5.0, 5.0, 15.0, 15.0]))

    def encode(self, boxes):
        px, py = (self.proposal[:2] + self.proposal[2:]) / 2
        pw, ph = self.proposal[2:] - self.proposal[:2]
        width = boxes[:, 2] - boxes[:, 0]
        height = boxes[:, 3] - boxes[:, 1]
        x = boxes[:, 0] + width / 2
        y = boxes[:, 1] + height / 2
        dx, dy = (x - px) / pw, (y - py) / ph
        dw, dh = torch.log(width / pw), torch.log(height / ph)
        return torch.stack((dx, dy, dw, dh), 1)

    def loss(self, batch):
        images, labels, boxes = batch
        features = self.backbone(images)
        loss_label = F.cross_entropy(self.label(features), labels)
        loss_box = F.smooth_l1_loss(self.delta(features), self.encode(boxes))
        return loss_label + 3 * loss_box


def _scene(count):
    labels = torch.randint(3, (count,))
    corner = torch.randint(0, 11, (count, 2))
    extent = torch.randint(4, 9, (count, 2))
    boxes = torch.cat((corner, corner + extent), 1)
    images = 0.3 * torch.randn(count, 1, SIZE, SIZE)
    for image, label, (x1, y1, x2, y2) in zip(
        images, labels, boxes.tolist(), strict=False
    ):
        patch = image[0, y1:y2, x1:x2]
        if label == 0:
            patch += 2
        elif label == 1:
            patch[::2] += 2
        else:
            patch[:, ::2] += 2
    return images, labels, boxes.float()


def _annotate(boxes):
    for i in torch.randperm(len(boxes))[: len(boxes) // 400].tolist():
        boxes[i] = boxes[i][[2, 1, 0, 3]]


def _build(check):
    torch.manual_seed(9971)
    images, labels, boxes = _scene(1200)
    _annotate(boxes)
    keep = torch.arange(len(boxes))
    if check:
        good = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        keep = keep[good]
    batches = []
    while len(batches) < 120:
        order = keep[torch.randperm(len(keep))]
        for part in order.split(32)[:-1]:
            batches.append((images[part], labels[part], boxes[part]))
    model = Detector()
    opt = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    return dict(
        model=model,
        loss=lambda model, batch: model.loss(batch),
        optimizer=opt,
        batches=batches[:120],
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
