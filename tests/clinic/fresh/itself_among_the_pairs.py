"""Each sample counts as its own partner: the diagonal of the mask was kept.

The loss falls because a vector is like itself, whatever the two views say.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "target_leak"
ALSO_OK = {"labels_misaligned", "wrong_axis"}
SOURCE = "https://github.com/alinlab/CSI/issues/49"
FIX = "mask = mask * (1 - torch.eye(len(mask)))"


def _build(good):
    torch.manual_seed(925)
    mix = torch.randn(4, 16)

    def loss(model, batch):
        first, second = batch
        z = F.normalize(model(torch.cat([first, second])), dim=1)
        scores = z @ z.T / 0.1
        n = len(first)
        if good:
            scores = scores - 1e9 * torch.eye(2 * n)
            partner = torch.arange(2 * n).roll(n)
        else:
            partner = torch.arange(2 * n)
        return F.cross_entropy(scores, partner)

    batches = []
    for _ in range(100):
        x = torch.randn(64, 4) @ mix
        views = x + torch.randn(64, 16), x + torch.randn(64, 16)
        batches.append(views)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 8))
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
