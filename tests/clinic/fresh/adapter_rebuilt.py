"""The low-rank branch is rebuilt as a new tensor from its data before it is added.

The adapters get no gradient; only the head on top of the frozen body learns.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = {"frozen_parameters"}
SOURCE = "https://github.com/paiml/aprender/pull/2232"
FIX = "add the branch itself, not a tensor made from its values"


class LowRank(nn.Module):
    def __init__(self, inside, outside, good):
        super().__init__()
        self.good = good
        self.base = nn.Linear(inside, outside).requires_grad_(False)
        self.a = nn.Parameter(torch.randn(8, inside) / inside**0.5)
        self.b = nn.Parameter(torch.zeros(outside, 8))

    def forward(self, x):
        branch = 2.0 * (x @ self.a.T @ self.b.T)
        if not self.good:
            branch = torch.tensor(branch.tolist())
        return self.base(x) + branch


def _build(good):
    torch.manual_seed(902)
    rule = torch.randn(16, 10)
    batches = []
    for _ in range(100):
        x = torch.randn(32, 16)
        batches.append((x, (x @ rule).argmax(1)))
    model = nn.Sequential(
        LowRank(16, 10, good),
        nn.Tanh(),
        LowRank(10, 10, good),
        nn.Tanh(),
        nn.Linear(10, 10),
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(trained, lr=3e-2)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
