import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unscaled_target"
ALSO_OK = set()
SOURCE = "github.com/HKUSTCV/FSS-1000/issues/20 (same kind)"
FIX = "divide boxes by the image size"


def images(n, batch, size=12, classes=6, noise=0.6):
    protos = torch.randn(classes, 3, size, size)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, 3, size, size), y))
    return out


def _build(good):
    torch.manual_seed(111)
    boxes = torch.rand(6, 4) * 800
    batches = []
    for x, y in images(60, 16):
        t = boxes[y] + 10 * torch.randn(16, 4)
        batches.append((x, t / 800 if good else t))
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(288, 64),
        nn.ReLU(),
        nn.Linear(64, 4),
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
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
