import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "nothing: four backward passes an update are meant"


def _build():
    torch.manual_seed(125)
    protos = torch.randn(4, 10)
    batches = []
    for _ in range(80):
        y = torch.randint(0, 4, (8,))
        batches.append((protos[y] + torch.randn(8, 10), y))
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    calls = [0]

    def step(batch):
        loss = F.cross_entropy(model(batch[0]), batch[1])
        (loss / 4).backward()
        calls[0] += 1
        if calls[0] % 4 == 0:
            opt.step()
            opt.zero_grad()
        return loss.item()

    return dict(model=model, optimizer=opt, batches=batches, step=step)


def make():
    return _build()


make_fixed = make
