"""The digit network of an online book, with sigmoid replaced by relu and nothing else
changed. The accuracy stands at that of guessing from the first epoch on."""

import itertools

import torch
from torch import nn

CAUSE = "init_too_large"
ALSO_OK = {"lr_too_high", "dead_relu"}
SOURCE = "https://github.com/MichalDanielDobrzanski/DeepLearningPython/issues/13"
FIX = "weights and biases a tenth as large, and a learning rate of 0.01"


class Network(nn.Module):
    def __init__(self, sizes, scale):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in itertools.pairwise(sizes)
        )
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=scale)
            nn.init.normal_(layer.bias, std=scale)

    def forward(self, a):
        for layer in self.layers:
            a = torch.relu(layer(a))
        return a


def loss_fn(output, target):
    return 0.5 * (output - target).square().sum(1).mean()


def _build(good):
    torch.manual_seed(4115)
    glyphs = (torch.rand(10, 784) < 0.2).float()
    batches = []
    for _ in range(150):
        y = torch.randint(0, 10, (10,))
        keep = (torch.rand(10, 784) < 0.85).float()
        x = (glyphs[y] * keep + 0.1 * torch.rand(10, 784)).clamp(0, 1)
        batches.append((x, torch.eye(10)[y]))
    model = Network([784, 30, 10], 0.1 if good else 1.0)
    opt = torch.optim.SGD(model.parameters(), lr=0.01 if good else 3.0)
    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
