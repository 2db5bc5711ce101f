import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"unscaled_target"}
SOURCE = "github.com/prs-eth/Marigold/issues/111 (same kind)"
FIX = "drop the broken record"


def _build(good):
    torch.manual_seed(115)
    w = torch.randn(10, 1)
    batches = []
    for k in range(60):
        x = torch.randn(32, 10)
        y = x @ w + 0.1 * torch.randn(32, 1)
        if k == 17 and not good:
            y[4] = 3e7
        batches.append((x, y))
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))
    opt = torch.optim.SGD(model.parameters(), lr=0.02)
    return dict(
        model=model,
        loss_fn=F.mse_loss,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
