"""A small YOLO is trained with darknet's burn-in of 1000 iterations, in which the rate
rises with the fourth power. The printed rate is 0.000000, and the loss is large and
does not go down."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "learning_rate_zero"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/AlexeyAB/darknet/issues/1260"
FIX = "no burn-in"

GRID = 4
CELL = 6
CLASSES = 2


class Yolo(nn.Module):
    def __init__(self):
        super().__init__()

        def conv(inputs, outputs, stride=1):
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(0.1),
            )

        self.body = nn.Sequential(
            conv(1, 16), conv(16, 24, 2), conv(24, 32, 3), conv(32, 32)
        )
        self.region = nn.Conv2d(32, 3 + CLASSES, 1)

    def forward(self, images):
        return self.region(self.body(images))


def _loss(output, target):
    there, place, label = target
    objectness = F.binary_cross_entropy_with_logits(output[:, 0], there)
    raw = output.permute(0, 2, 3, 1)[there > 0]
    box = F.mse_loss(raw[:, 1:3].sigmoid(), place[there > 0])
    name = F.cross_entropy(raw[:, 3:], label[there > 0])
    return 5 * objectness + 5 * box + name


def _batch(count=24):
    side = GRID * CELL
    images = 0.3 * torch.randn(count, 1, side, side)
    there = (torch.rand(count, GRID, GRID) < 0.2).float()
    there[:, 0, 0] = 1
    place = torch.rand(count, GRID, GRID, 2)
    label = torch.randint(CLASSES, (count, GRID, GRID))
    for b, r, c in there.nonzero().tolist():
        dy, dx = (place[b, r, c] * (CELL - 3)).round().int().tolist()
        y, x = r * CELL + dy, c * CELL + dx
        place[b, r, c] = torch.tensor([dy, dx]) / (CELL - 3)
        images[b, 0, y : y + 3, x : x + 3] += 2
        if label[b, r, c]:
            images[b, 0, y + 1, x + 1] -= 3
    return images, (there, place, label)


def _build(burn_in):
    torch.manual_seed(1260)
    batches = [_batch() for _ in range(110)]
    model = Yolo()
    rate = 0.01
    opt = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    seen = 0

    def scheduler():
        nonlocal seen
        seen += 1
        power = min(seen / burn_in, 1) ** 4 if burn_in else 1
        for group in opt.param_groups:
            group["lr"] = rate * power

    if burn_in:
        scheduler()
    return dict(
        model=model,
        loss_fn=_loss,
        optimizer=opt,
        batches=batches,
        scheduler=scheduler,
    )


def make():
    return _build(1000)


def make_fixed():
    return _build(0)
