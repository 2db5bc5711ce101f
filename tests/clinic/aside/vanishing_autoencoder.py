from itertools import pairwise

import torch
from torch import nn

CAUSE = "vanishing"
ALSO_OK = {"saturated_activation", "deep_no_skip_or_norm"}
SOURCE = "https://stackoverflow.com/questions/39217567"
FIX = "ReLU with He init instead of sigmoid layers drawn from N(0, 0.05)"


def _build(good):
    torch.manual_seed(103)
    protos = (torch.rand(8, 40) < 0.5).float()
    batches = []
    for _ in range(80):
        x = protos[torch.randint(0, 8, (32,))]
        x = (x - (torch.rand(32, 40) < 0.05).float()).abs()
        batches.append((x, x))
    layers, sizes = [], [40, 32, 24, 8, 24, 32]
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m), nn.ReLU() if good else nn.Sigmoid()]
    model = nn.Sequential(*layers, nn.Linear(32, 40), nn.Sigmoid())
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight) if good else nn.init.normal_(
                layer.weight, std=0.05
            )
            nn.init.zeros_(layer.bias)
    opt = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
