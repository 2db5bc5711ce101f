import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "zero_grad_misplaced"
ALSO_OK = set()
SOURCE = "written for this test, after common reports (accumulation)"
FIX = "zero_grad once, before the first micro-batch"


def _build(good):
    torch.manual_seed(511)
    protos = torch.randn(5, 20)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 5, (32,))
        batches.append((protos[y] + 1.5 * torch.randn(32, 20), y))
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    opt = torch.optim.SGD(model.parameters(), lr=0.3)

    def step(batch):
        total = 0.0
        opt.zero_grad()
        for x, y in zip(batch[0].chunk(8), batch[1].chunk(8), strict=True):
            if not good:
                opt.zero_grad()
            loss = F.cross_entropy(model(x), y) / 8
            loss.backward()
            total += float(loss)
        opt.step()
        return total

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
