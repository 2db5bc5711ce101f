import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "missing_zero_grad"
ALSO_OK = set()
SOURCE = (
    "github.com/fchollet/deep-learning-with-python-notebooks/issues/293 (same kind)"
)
FIX = "optimizer.zero_grad()"


def table(n, batch, features=20, classes=5, noise=0.5):
    protos = torch.randn(classes, features)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, features), y))
    return out


def _build(good):
    torch.manual_seed(116)
    batches = table(80, 32, noise=1.0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    opt = torch.optim.SGD(model.parameters(), lr=0.2)

    def step(batch):
        x, y = batch
        loss = F.cross_entropy(model(x), y)
        if good:
            opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.item()

    return dict(
        model=model,
        step=step,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
