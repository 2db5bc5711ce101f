import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unshuffled_data"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/choderalab/modelforge/pull/129"
FIX = "DataLoader(..., shuffle=True)"


def _build(good):
    torch.manual_seed(718)
    size = torch.randint(2, 30, (1280,)).float()
    kinds = torch.rand(1280, 5)
    x = torch.cat([kinds, kinds * size[:, None] / 15], 1)
    y = torch.cos(size / 4) + torch.sin(3 * kinds[:, 0]) / 2
    order = torch.randperm(1280) if good else size.argsort()
    x, y = x[order], y[order][:, None]
    batches = list(zip(x.split(16), y.split(16), strict=True))
    model = nn.Sequential(nn.Linear(10, 64), nn.SiLU(), nn.Linear(64, 1))
    opt = torch.optim.Adam(model.parameters(), lr=2e-2)
    return dict(model=model, loss_fn=F.mse_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
