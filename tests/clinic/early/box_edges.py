"""Corners of annotated boxes are moved by one pixel and kept as unsigned 16-bit
numbers, so a corner at zero becomes 65535. The log of the negative width makes the
loss of a detector NaN when such a box comes."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/jwyang/faster-rcnn.pytorch/issues/75"
FIX = "set corners that wrapped around back to zero"

SIZE = 24
CELLS = 6
STRIDE = SIZE // CELLS
ANCHOR = 8.0


class Detector(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.cls = nn.Conv2d(width, 1, 1)
        self.box = nn.Conv2d(width, 4, 1)

    def forward(self, image):
        x = self.body(image)
        return self.cls(x)[:, 0], self.box(x)


def _encode(boxes, cell):
    widths = boxes[:, 2] - boxes[:, 0] + 1
    heights = boxes[:, 3] - boxes[:, 1] + 1
    center_x = boxes[:, 0] + widths / 2
    center_y = boxes[:, 1] + heights / 2
    anchor = (cell + 0.5) * STRIDE
    return torch.stack(
        [
            (center_x - anchor[:, 0]) / ANCHOR,
            (center_y - anchor[:, 1]) / ANCHOR,
            torch.log(widths / ANCHOR),
            torch.log(heights / ANCHOR),
        ],
        1,
    )


def _loss(model, batch):
    image, boxes, cell = batch
    score, delta = model(image)
    rows = torch.arange(len(image))
    column, row = cell.long().unbind(1)
    label = torch.zeros_like(score)
    label[rows, row, column] = 1
    found = F.binary_cross_entropy_with_logits(score, label)
    offset = delta[rows, :, row, column]
    return 4 * found + F.smooth_l1_loss(offset, _encode(boxes, cell))


def _scene(count, number):
    image = 0.2 * torch.randn(count, 1, SIZE, SIZE)
    size = torch.randint(5, 12, (count, 2))
    corner = 1 + (torch.rand(count, 2) * (SIZE - 1 - size)).long()
    corner[(number + torch.arange(count)) % 397 == 350, 0] = 0
    boxes = torch.cat([corner, corner + size - 1], 1)
    for one, (left, top, right, bottom) in zip(image, boxes.tolist(), strict=True):
        one[:, top : bottom + 1, left : right + 1] += 1.0
    cell = ((boxes[:, :2] + boxes[:, 2:] + 1) // 2 // STRIDE).clamp(max=CELLS - 1)
    return image, boxes, cell


def _build(repair):
    torch.manual_seed(7518)
    batches = []
    for step in range(110):
        image, boxes, cell = _scene(12, 12 * step)
        boxes = (boxes - 1) % 65536
        if repair:
            boxes[boxes > 60000] = 0
        batches.append((image, boxes.float(), cell.float()))
    model = Detector()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
