import torch
from torch import nn

CAUSE = "shape_mismatch"
ALSO_OK = set()
SOURCE = "https://github.com/pytorch/pytorch/issues/16045 (same kind)"
FIX = "target.unsqueeze(1)"


def _build(good):
    torch.manual_seed(525)
    batches = []
    for _ in range(60):
        x = torch.randn(8, 3, 8, 8)
        y = torch.tanh(x.sum(1))
        batches.append((x, y[:, None] if good else y))
    model = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 1, 1)
    )
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(
        model=model,
        loss_fn=lambda out, y: (out - y).abs().mean(),
        optimizer=opt,
        batches=batches,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
