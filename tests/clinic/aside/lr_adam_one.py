import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = {"saturated_activation", "dead_relu"}
SOURCE = "https://github.com/KovenYu/MAR/issues/5"
FIX = "Adam with 0.5 makes every weight jump by 0.5 a step: 3e-3"


def _build(good):
    torch.manual_seed(101)
    protos = torch.randn(7, 3, 8, 8)
    batches = []
    for _ in range(50):
        y = torch.randint(0, 7, (32,))
        batches.append((protos[y] + 0.8 * torch.randn(32, 3, 8, 8), y))
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.GELU(),
        nn.Conv2d(16, 16, 3),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(256, 7),
    )
    opt = torch.optim.Adam(model.parameters(), lr=3e-3 if good else 0.5)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
