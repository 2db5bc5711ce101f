import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "github.com/pytorch/pytorch/issues/8069 (same kind)"
FIX = "clamp the cosine inside (-1, 1)"


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 3))

    def forward(self, x):
        return F.normalize(self.body(x), dim=1)


def _build(good):
    torch.manual_seed(113)

    def loss_fn(out, y):
        cosine = (out * y).sum(1)
        if good:
            cosine = cosine.clamp(-1 + 1e-4, 1 - 1e-4)
        return torch.acos(cosine).mean()

    batches = []
    for _ in range(120):
        x = torch.randn(64, 12)
        batches.append(
            (x, F.normalize(torch.tensor([[0.3, -0.8, 0.5]]).expand(64, 3), dim=1))
        )
    model = Head()
    opt = torch.optim.Adam(model.parameters(), lr=0.01)
    return dict(
        model=model,
        loss_fn=loss_fn,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
