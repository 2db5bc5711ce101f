"""Where all keys of a sample are missing, its row of scores is minus infinity.

The softmax of such a row is not a number, and one step later nothing is.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"bad_data"}
SOURCE = "https://github.com/AshleyLab/OpenMHC/issues/11"
FIX = "let a row without any key see all of them (or give it zeros)"


class Pool(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.enter, self.score = nn.Linear(6, 32), nn.Linear(32, 1)
        self.leave = nn.Linear(32, 3)

    def forward(self, batch):
        x, missing = batch
        h = torch.tanh(self.enter(x))
        if self.good:
            missing = missing & ~missing.all(1, keepdim=True)
        scores = self.score(h).squeeze(2).masked_fill(missing, float("-inf"))
        return self.leave((scores.softmax(1)[:, :, None] * h).sum(1))


def _build(good):
    torch.manual_seed(905)
    rule = torch.randn(6, 3)
    batches = []
    for i in range(100):
        x = torch.randn(32, 8, 6)
        missing = torch.rand(32, 8) < 0.4
        if i % 9 == 4:
            missing[3] = True
        keep = (~missing).float()[:, :, None]
        y = ((x * keep).sum(1) @ rule).argmax(1)
        batches.append(((x, missing), y))
    model = Pool(good)
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(
        model=model,
        loss=lambda m, b: F.cross_entropy(m(b[0]), b[1]),
        optimizer=opt,
        batches=batches,
        clip=1.0,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
