import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unnormalized_input"
ALSO_OK = {"dead_relu", "lr_too_high"}
SOURCE = "https://stackoverflow.com/questions/39525358"
FIX = "StandardScaler on the columns"


def _build(good):
    torch.manual_seed(9)
    scale = torch.tensor([1.0, 40.0, 3e3, 0.02, 250.0, 9e4])
    shift = torch.tensor([0.0, 38.0, 2e3, 0.1, 900.0, 5e4])
    v = torch.randn(6)
    batches = []
    for _ in range(60):
        z = torch.randn(32, 6)
        batches.append((z if good else z * scale + shift, (z @ v > 0).long()))
    model = nn.Sequential(
        nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)
    )
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
