"""A focal loss clamps the probabilities of a one-stage detector, to 1e-4 at least.
After some steps at too high a rate all of them lie beyond the clamp, where no
gradient passes: the loss freezes, often at 2.302."""

import torch
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = {"saturated_activation", "warmup_missing"}
SOURCE = "https://github.com/yhenon/pytorch-retinanet/issues/41"
FIX = "lower the learning rate"

SIZE = 24
KINDS = 2


class Retina(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        layers, inside = [], 1
        for stride in (2, 2, 1, 1):
            layers += [nn.Conv2d(inside, width, 3, stride, 1), nn.ReLU()]
            inside = width
        self.body = nn.Sequential(*layers)
        self.output = nn.Conv2d(width, KINDS, 3, padding=1)
        nn.init.zeros_(self.output.weight)
        nn.init.constant_(self.output.bias, -4.6)

    def forward(self, x):
        return torch.sigmoid(self.output(self.body(x)))


def _focal(classification, target, alpha=0.25, gamma=2.0):
    p = torch.clamp(classification, 1e-4, 1.0 - 1e-4)
    positive = target == 1
    weight = torch.where(positive, alpha * (1 - p) ** gamma, (1 - alpha) * p**gamma)
    cross = -torch.where(positive, torch.log(p), torch.log(1 - p))
    return (weight * cross).sum() / positive.sum().clamp(min=1)


def _scenes(count):
    image = 0.3 * torch.randn(count, 1, SIZE, SIZE)
    target = torch.zeros(count, KINDS, SIZE // 4, SIZE // 4)
    place = torch.randint(0, SIZE - 6, (count, 2, 2)).tolist()
    kind = torch.randint(0, KINDS, (count, 2)).tolist()
    for one, goal, places, kinds in zip(image, target, place, kind, strict=True):
        for (top, left), what in zip(places, kinds, strict=True):
            one[0, top : top + 6, left : left + 6] += 1.5
            if what == 1:
                one[0, top + 2 : top + 4, left + 2 : left + 4] -= 3
            goal[what, (top + 3) // 4, (left + 3) // 4] = 1
    return image, target


def _build(lr):
    torch.manual_seed(4141)
    batches = [_scenes(16) for _ in range(130)]
    model = Retina()
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return dict(model=model, loss_fn=_focal, optimizer=opt, batches=batches)


def make():
    return _build(1.0)


def make_fixed():
    return _build(1e-2)
