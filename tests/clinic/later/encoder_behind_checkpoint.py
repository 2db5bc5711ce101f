import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

CAUSE = "detached_graph"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/ai2cm/ace/pull/1493"
FIX = "checkpoint(..., use_reentrant=False)"


class Net(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.reentrant = reentrant
        self.encoder = nn.Sequential(nn.Linear(12, 48), nn.GELU(), nn.Linear(48, 24))
        self.body = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 3))

    def forward(self, x):
        h = checkpoint(self.encoder, x, use_reentrant=self.reentrant)
        return self.body(h)


def _build(good):
    torch.manual_seed(701)
    rule = torch.randn(12, 3)
    batches = []
    for _ in range(80):
        x = torch.randn(32, 12)
        batches.append((x, torch.tanh(x @ rule / 3)))
    model = Net(not good)
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=F.mse_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
