import torch
from torch import nn

CAUSE = "clip_too_tight"
ALSO_OK = set()
SOURCE = "https://github.com/wandb/senpai/pull/978"
FIX = "clip near the usual norm"


def _build(good):
    torch.manual_seed(513)
    w = torch.randn(12, 1)
    batches = []
    for _ in range(80):
        x = torch.randn(32, 12)
        batches.append((x, torch.tanh(x @ w) + 0.1 * torch.randn(32, 1)))
    model = nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 1))
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return dict(
        model=model,
        loss_fn=nn.MSELoss(),
        optimizer=opt,
        batches=batches,
        clip=5.0 if good else 2e-3,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
