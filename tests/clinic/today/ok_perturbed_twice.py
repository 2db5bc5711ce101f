import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test: sharpness-aware steps clear a gradient they have used"
FIX = "nothing to fix"


def make():
    torch.manual_seed(547)
    protos = torch.randn(6, 24)
    batches = []
    for _ in range(80):
        y = torch.randint(0, 6, (32,))
        batches.append((protos[y] + 0.8 * torch.randn(32, 24), y))
    model = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 6))
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(batch):
        opt.zero_grad()
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        moves = []
        with torch.no_grad():
            size = sum(p.grad.pow(2).sum() for p in model.parameters()).sqrt()
            for p in model.parameters():
                moves.append(0.05 * p.grad / (size + 1e-12))
                p.add_(moves[-1])
        opt.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves, strict=True):
                p.sub_(move)
        opt.step()
        return loss

    return dict(model=model, step=step, optimizer=opt, batches=batches)


make_fixed = make
