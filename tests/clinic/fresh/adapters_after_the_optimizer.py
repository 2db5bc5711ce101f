"""Adapters were added to the model after the optimizer had taken its parameters.

The body is frozen, the adapters get gradients, and nothing ever changes.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = {"frozen_parameters"}
SOURCE = "https://github.com/adapter-hub/adapters/issues/260"
FIX = "add the adapters first, then build the optimizer"


class Adapted(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, 8, bias=False)
        self.up = nn.Linear(8, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def _adapt(model):
    for i, layer in enumerate(model):
        if isinstance(layer, nn.Linear):
            model[i] = Adapted(layer)


def _build(good):
    torch.manual_seed(901)
    rule = torch.randn(12, 4)
    batches = []
    for _ in range(100):
        x = torch.randn(32, 12)
        batches.append((x, (x @ rule).argmax(1)))
    model = nn.Sequential(
        nn.Linear(12, 48), nn.GELU(), nn.Linear(48, 48), nn.GELU(), nn.Linear(48, 4)
    )
    if good:
        _adapt(model)
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    if not good:
        _adapt(model)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
