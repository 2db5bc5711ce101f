import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unscaled_target"
ALSO_OK = {"saturated_activation"}
SOURCE = "https://github.com/HKUSTCV/FSS-1000/issues/20"
FIX = "divide the masks by 255"


def _build(good):
    torch.manual_seed(11)
    batches = []
    for _ in range(60):
        m = (F.avg_pool2d(torch.randn(16, 1, 16, 16), 5, 1, 2) > 0).float()
        x = m + 0.4 * torch.randn(16, 1, 16, 16)
        batches.append((x, m if good else 255 * m))
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 1, 1),
        nn.Sigmoid(),
    )
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
