"""The factor by which deeper layers learn slower is applied at every step, not once.
Within some dozen steps every rate is next to zero, and no weight moves any more."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "learning_rate_zero"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/jaehyunnn/ViTPose_pytorch/issues/20"
FIX = "multiply the rate of each layer by its factor once, when the optimizer is built"

DEPTH = 5


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inside = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )

    def forward(self, x):
        return x + self.inside(self.norm(x))


class Pose(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(12, 32)
        self.blocks = nn.ModuleList(Block(32) for _ in range(DEPTH))
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def layers(self):
        return [self.stem, *self.blocks, self.head]


class LayerDecay(torch.optim.AdamW):
    def __init__(self, layers, lr, decay, once):
        groups = []
        for depth, layer in enumerate(layers):
            factor = decay ** (len(layers) - depth)
            groups.append(dict(params=list(layer.parameters()), factor=factor))
        super().__init__(groups, lr=lr)
        self.once = once
        if once:
            self._scale()

    def _scale(self):
        for group in self.param_groups:
            group["lr"] *= group["factor"]

    def step(self, closure=None):
        if not self.once:
            self._scale()
        return super().step(closure)


def _loss(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def _build(good):
    torch.manual_seed(2102)
    first, second = torch.randn(12, 6) / 2, torch.randn(6, 4)
    batches = []
    for _ in range(120):
        x = torch.randn(64, 12)
        y = torch.tanh(x @ first) @ second
        batches.append((x, y))
    model = Pose()
    opt = LayerDecay(model.layers(), lr=5e-3, decay=0.75, once=good)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
