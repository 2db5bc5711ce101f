"""The loader reads the folders of classes one after the other and does not shuffle,
so all targets of a batch are the same. The loss falls to zero within a few updates,
and jumps up whenever the next class begins."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unshuffled_data"
ALSO_OK = set()
SOURCE = "https://github.com/bermanmaxim/AOWS/issues/1"
FIX = "shuffle=True in the loader of the training set"

CLASSES = 10
WIDTHS = (16, 24, 32)


class SlimConv(nn.Conv2d):
    def forward(self, x, width):
        weight = self.weight[:width, : x.shape[1]]
        return F.conv2d(x, weight, self.bias[:width], self.stride, self.padding)


class Supernet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = SlimConv(3, 32, 3, padding=1)
        self.body = SlimConv(32, 32, 3, stride=2, padding=1)
        self.head = nn.Linear(32 * 9, CLASSES)

    def forward(self, x, width):
        x = F.max_pool2d(F.relu(self.stem(x, width)), 2)
        x = F.relu(self.body(x, width))
        x = F.pad(x, (0, 0, 0, 0, 0, 32 - width))
        return self.head(x.flatten(1))


def _loss(model, batch):
    x, y = batch
    biggest = model(x, WIDTHS[-1])
    loss = F.cross_entropy(biggest, y)
    taught = biggest.detach().softmax(1)
    width = WIDTHS[int(torch.randint(len(WIDTHS) - 1, ()))]
    return loss + F.cross_entropy(model(x, width), taught)


def _build(shuffle):
    torch.manual_seed(4101)
    looks = torch.randn(CLASSES, 3, 12, 12)
    labels = torch.arange(CLASSES).repeat_interleave(320)
    images = looks[labels] * 0.7 + torch.randn(len(labels), 3, 12, 12)
    order = torch.randperm(len(labels)) if shuffle else torch.arange(len(labels))
    batches = [(images[i], labels[i]) for i in order.split(32)]
    model = Supernet()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
