import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "dead_relu"
ALSO_OK = set()
SOURCE = "https://stackoverflow.com/questions/47352366"
FIX = "no ReLU after the last layer: cross entropy wants logits"


def _build(good):
    torch.manual_seed(7)
    protos = torch.randn(6, 20)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 6, (32,))
        batches.append((protos[y] + 0.5 * torch.randn(32, 20), y))
    model = nn.Sequential(
        nn.Linear(20, 48),
        nn.ReLU(),
        nn.Linear(48, 6),
        nn.Identity() if good else nn.ReLU(),
    )
    with torch.no_grad():
        model[2].bias.sub_(1.5)
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
