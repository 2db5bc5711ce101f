import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "init_too_large"
ALSO_OK = set()
SOURCE = "https://github.com/dmlc/cxxnet/issues/123"
FIX = "He initialization instead of N(0, 1)"


def _build(good):
    torch.manual_seed(102)
    patterns = torch.randn(5, 3, 8, 8)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 5, (16,))
        batches.append((patterns[y] + 0.7 * torch.randn(16, 3, 8, 8), y))
    layers, width = [], 3
    for _ in range(4):
        layers += [nn.Conv2d(width, 16, 3, padding=1), nn.ReLU()]
        width = 16
    model = nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 5)
    )
    for m in model:
        if isinstance(m, nn.Conv2d):
            if good:
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            else:
                nn.init.normal_(m.weight)
    opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
