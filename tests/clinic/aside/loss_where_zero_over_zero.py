import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/pytorch/pytorch/issues/16317"
FIX = "make the denominator safe before the division, not after"


def _build(good):
    torch.manual_seed(110)

    def loss_fn(out, y):
        count = y.sum(1)
        hit = (torch.sigmoid(out) * y).sum(1)
        norm = (out**2 * y).sum(1)
        if good:
            share = torch.where(
                count > 0,
                hit / norm.clamp_min(1e-3).where(count > 0, torch.ones(())),
                torch.zeros(()),
            )
        else:
            share = torch.where(count > 0, hit / norm, torch.zeros(()))
        return (
            F.binary_cross_entropy_with_logits(out, y)
            - 1e-3 * share.clamp(max=10).mean()
        )

    w = torch.randn(12, 6)
    batches = []
    for i in range(60):
        x = torch.randn(32, 12)
        y = (x @ w > 1).float()
        if i < 8:
            y[:, 0] = 1.0
        batches.append((x, y))
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 6))
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
