import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = set()
SOURCE = "https://github.com/prs-eth/Marigold/issues/111"
FIX = "mask the pixels without ground truth"


def _build(good):
    torch.manual_seed(16)
    batches = []
    for i in range(40):
        x = torch.randn(8, 1, 12, 12)
        y = F.avg_pool2d(x, 3, 1, 1)
        if i == 17:
            y[0, 0, :2] = 0.0 if good else float("inf")
        batches.append((x, y))
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)
    )
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss_fn=nn.L1Loss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
