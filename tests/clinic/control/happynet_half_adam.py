"""The whole network and its Adam run in float16, where the default epsilon of 1e-8 and
the squares of small gradients are zero. The loss is NaN after the first update."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_underflow"
ALSO_OK = {"optimizer_misconfigured", "loss_numerics"}
SOURCE = "https://github.com/pytorch/pytorch/issues/8860"
FIX = "give Adam an epsilon that float16 can hold, 1e-4"

SIZE, MOODS = 12, 7


class HappyNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.conv3 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 3 * 3, 64)
        self.fc2 = nn.Linear(64, MOODS)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.conv3(x)).flatten(1)
        return self.fc2(F.relu(self.fc1(x)))


def _loss(model, batch):
    x, y = batch
    return F.cross_entropy(model(x).float(), y)


def _build(good):
    torch.manual_seed(4106)
    faces = torch.randn(MOODS, 1, SIZE, SIZE)
    batches = []
    for _ in range(120):
        y = torch.randint(MOODS, (32,))
        x = faces[y] + torch.randn(32, 1, SIZE, SIZE)
        batches.append((x.half(), y))
    model = HappyNet().half()
    opt = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-4 if good else 1e-8)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
