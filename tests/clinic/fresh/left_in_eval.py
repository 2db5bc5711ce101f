"""After the first validation the model stays in evaluation mode.

Batch norm then divides by statistics of its first steps for ever.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "batchnorm_misuse"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/fartashf/vsepp/issues/4"
FIX = "model.train() at the start of every step"


def _block(width):
    return [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()]


def _build(good):
    torch.manual_seed(909)
    rule = torch.randn(20, 5)
    batches = []
    for _ in range(100):
        x = torch.randn(32, 20)
        batches.append((x, (torch.sin(x) @ rule).argmax(1)))
    layers = [nn.Linear(20, 48), nn.BatchNorm1d(48), nn.ReLU()]
    for _ in range(9):
        layers += _block(48)
    model = nn.Sequential(*layers, nn.Linear(48, 5))
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    count = [0]

    def validate():
        model.eval()
        with torch.no_grad():
            return F.cross_entropy(model(batches[0][0]), batches[0][1]).item()

    def step(batch):
        if good:
            model.train()
        x, y = batch
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        count[0] += 1
        if count[0] % 5 == 0:
            validate()
        return loss.item()

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
