import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "vanishing"
ALSO_OK = {"deep_no_skip_or_norm"}
SOURCE = "https://github.com/shiningrain/AUTOTRAINER (demo_case)"
FIX = "ReLU with He initialization instead of sigmoid"


def _build(good):
    torch.manual_seed(103)
    patterns = torch.randn(6, 1, 8, 8)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 6, (32,))
        batches.append((patterns[y] + 0.5 * torch.randn(32, 1, 8, 8), y))
    layers, width = [], 1
    for _ in range(5):
        conv = nn.Conv2d(width, 12, 3, padding=1)
        if good:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, nn.ReLU() if good else nn.Sigmoid()]
        width = 12
    model = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12 * 16, 6))
    opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
