import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "wrong_axis"
ALSO_OK = set()
SOURCE = "written for this test, after common reports (dim=0 in log_softmax)"
FIX = "nn.LogSoftmax(dim=1)"


def _build(good):
    torch.manual_seed(509)
    protos = torch.randn(5, 20)
    batches = []
    for _ in range(80):
        y = torch.randint(0, 5, (32,))
        batches.append((protos[y] + 0.8 * torch.randn(32, 20), y))
    model = nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5), nn.LogSoftmax(1 if good else 0)
    )
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=F.nll_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
