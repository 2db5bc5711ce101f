import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "deep_no_skip_or_norm"
ALSO_OK = {"vanishing"}
SOURCE = "https://github.com/tensorflow/models/issues/991"
FIX = "batch norm after each convolution"


def _build(good):
    torch.manual_seed(19)
    protos = torch.randn(6, 3, 8, 8)
    batches = []
    for _ in range(40):
        y = torch.randint(0, 6, (16,))
        batches.append((protos[y] + 0.7 * torch.randn(16, 3, 8, 8), y))
    layers, n = [], 3
    for _ in range(16):
        layers += (
            [nn.Conv2d(n, 16, 3, padding=1)]
            + ([nn.BatchNorm2d(16)] if good else [])
            + [nn.ReLU()]
        )
        n = 16
    model = nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 6)
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
