"""In the annotations of some pictures xmin and xmax are mistaken for each other, so
the width of the box is negative. Its square root, which is the target, is nan, and
the loss is nan within the first updates."""

import torch
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/thtrieu/darkflow/issues/151"
FIX = "order the corners of each annotation, xmin < xmax and ymin < ymax"

SIZE = 24


def _pictures(count):
    low = torch.rand(count, 2) * 0.5
    high = low + 0.2 + torch.rand(count, 2) * 0.3
    axis = (torch.arange(SIZE) + 0.5) / SIZE
    across = (axis > low[:, :1]) & (axis < high[:, :1])
    down = (axis > low[:, 1:]) & (axis < high[:, 1:])
    inside = (down[:, :, None] & across[:, None, :]).float()
    images = inside[:, None] + torch.randn(count, 1, SIZE, SIZE) * 0.2
    return images, torch.cat([low, high], 1)


def _parse(boxes):
    xmin, ymin, xmax, ymax = boxes.unbind(1)
    center_x, center_y = (xmin + xmax) / 2, (ymin + ymax) / 2
    return torch.stack(
        [center_x, center_y, (xmax - xmin).sqrt(), (ymax - ymin).sqrt()], 1
    )


def _loss(output, target):
    return (output - target).pow(2).sum(1).mean()


def _build(order):
    torch.manual_seed(4111)
    images, boxes = _pictures(800)
    swapped = torch.rand(800) < 0.1
    boxes[swapped] = boxes[swapped][:, [2, 1, 0, 3]]
    if order:
        first, second = boxes[:, :2], boxes[:, 2:]
        boxes = torch.cat(
            [torch.minimum(first, second), torch.maximum(first, second)], 1
        )
    targets = _parse(boxes)
    batches = []
    for _ in range(100):
        pick = torch.randint(800, (32,))
        batches.append((images[pick], targets[pick]))
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, stride=2, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(12, 24, 3, stride=2, padding=1),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(24 * 36, 4),
    )
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    return dict(model=model, loss_fn=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
