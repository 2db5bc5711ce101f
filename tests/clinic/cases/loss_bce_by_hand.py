import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/huggingface/candle/issues/2561"
FIX = "binary_cross_entropy_with_logits"


def by_hand(logit, y):
    p = torch.sigmoid(logit)
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


def _build(good):
    torch.manual_seed(109)
    kernel = torch.randn(1, 1, 5, 5)
    batches = []
    for _ in range(60):
        x = torch.randn(8, 1, 12, 12)
        y = (F.conv2d(x, kernel, padding=2) > 0).float()
        batches.append((6 * x, y))
    model = nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1)
    )
    opt = torch.optim.Adam(model.parameters(), lr=0.02)
    return dict(
        model=model,
        loss_fn=F.binary_cross_entropy_with_logits if good else by_hand,
        optimizer=opt,
        batches=batches,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
