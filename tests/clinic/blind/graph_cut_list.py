import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = set()
SOURCE = "github.com/pytorch/pytorch/issues/61410 (same kind)"
FIX = "torch.stack"


class Sets(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.enc = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 16))
        self.gain = nn.Parameter(torch.zeros(1))
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        pooled = [row.mean(0) for row in self.enc(x)]
        h = (
            torch.stack(pooled)
            if self.good
            else torch.tensor([p.tolist() for p in pooled])
        )
        return self.head(h).squeeze(1) * self.gain.exp()


def _build(good):
    torch.manual_seed(125)
    batches = []
    for _ in range(160):
        x = torch.randn(32, 10, 6)
        batches.append((x, (x.square().mean((1, 2)) - 1) * 5))
    model = Sets(good)
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
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
