import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = {"optimizer_misconfigured", "loss_terms_unbalanced"}
SOURCE = "https://github.com/samvanstroud/hepattn/pull/23"
FIX = "add every loss of a task to the total"


class Tasks(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(9, 40), nn.GELU())
        self.kind, self.mass = nn.Linear(40, 3), nn.Linear(40, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.kind(h), self.mass(h).squeeze(1)


def _loss(good):
    def loss(model, batch):
        x, kind, mass = batch
        logits, out = model(x)
        losses = {"kind": F.cross_entropy(logits, kind), "mass": F.mse_loss(out, mass)}
        total = 0.0
        for value in losses.values():
            total = total + value if good else value
        return total

    return loss


def _build(good):
    torch.manual_seed(808)
    sort, weight = torch.randn(9, 3), torch.randn(9) / 3
    batches = []
    for _ in range(80):
        x = torch.randn(32, 9)
        batches.append((x, (x @ sort).argmax(1), torch.sin(x @ weight)))
    model = Tasks()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss=_loss(good), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
