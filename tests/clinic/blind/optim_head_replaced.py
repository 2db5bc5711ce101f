import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = set()
SOURCE = "github.com/microsoft/nni/issues/4521 (same kind)"
FIX = "make the optimizer after the last change of the model"


def images(n, batch, size=12, classes=6, noise=0.6):
    protos = torch.randn(classes, 3, size, size)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, 3, size, size), y))
    return out


def _build(good):
    torch.manual_seed(124)
    batches = images(60, 32, noise=1.5)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(288, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.01)
    for k, new in (
        (0, nn.Conv2d(3, 8, 3, stride=2, padding=1)),
        (3, nn.Linear(288, 64)),
        (5, nn.Linear(64, 6)),
    ):
        model[k] = new
    if good:
        opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
