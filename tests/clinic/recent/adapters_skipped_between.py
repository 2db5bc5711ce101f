"""With gradients gathered over four batches, the step of the adapters is never reached.
The head alone learns, though the norm of the gradients looks as it should."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = set()
SOURCE = "https://github.com/paiml/entrenar/issues/264"
FIX = "update the adapters whenever the gathered gradients of the others are used"

GATHERED = 4


class Gathering(torch.optim.AdamW):
    """Adds gradients up, and steps at every fourth call; the caller may clear them."""

    def __init__(self, groups, lr, good):
        super().__init__(groups, lr=lr)
        self.calls, self.good, self.sums = 0, good, {}

    @torch.no_grad()
    def step(self, closure=None):
        self.calls += 1
        every = [p for group in self.param_groups for p in group["params"]]
        for i, p in enumerate(every):
            if p.grad is not None:
                self.sums[i] = self.sums.get(i, 0) + p.grad / GATHERED
        if self.calls % GATHERED:
            return
        gathering = GATHERED > 1
        for i, p in enumerate(every):
            p.grad = self.sums.get(i)
        for group in self.param_groups:
            if group["adapters"] and gathering and not self.good:
                for p in group["params"]:
                    p.grad = None
        super().step()
        self.sums = {}


class Adapted(nn.Module):
    def __init__(self, inside, outside):
        super().__init__()
        self.base = nn.Linear(inside, outside).requires_grad_(False)
        self.down = nn.Parameter(torch.randn(4, inside) / inside**0.5)
        self.up = nn.Parameter(torch.zeros(outside, 4))

    def forward(self, x):
        return self.base(x) + 2 * x @ self.down.T @ self.up.T


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Adapted(16, 24), Adapted(24, 24)])
        self.head = nn.Linear(24, 6)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


def _loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def _build(good):
    torch.manual_seed(2110)
    model = Model()
    other = Model()
    with torch.no_grad():
        for mine, its in zip(model.layers, other.layers, strict=True):
            its.base.load_state_dict(mine.base.state_dict())
            its.up.normal_(0, 0.8)
        other.head.weight.normal_(0, 1.5)
    batches = []
    for _ in range(240):
        x = torch.randn(48, 16)
        with torch.no_grad():
            batches.append((x, other(x).argmax(1)))
    adapters = [p for layer in model.layers for p in (layer.down, layer.up)]
    groups = [
        dict(params=adapters, adapters=True),
        dict(params=list(model.head.parameters()), adapters=False),
    ]
    opt = Gathering(groups, lr=3e-2, good=good)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
