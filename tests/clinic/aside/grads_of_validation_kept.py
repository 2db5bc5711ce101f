import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "missing_zero_grad"
ALSO_OK = set()
SOURCE = "https://github.com/karpathy/llm.c/pull/548"
FIX = "zero the gradients before the backward pass"


def _build(good):
    torch.manual_seed(114)
    protos = torch.randn(6, 24)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 6, (32,))
        batches.append((protos[y] + 1.2 * torch.randn(32, 24), y))
    model = nn.Sequential(
        nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 6)
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    shadow = torch.optim.SGD(list(nn.Linear(2, 2).parameters()), lr=0.1)

    def step(batch):
        (opt if good else shadow).zero_grad()  # clears the wrong optimizer
        loss = F.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        opt.step()
        return loss

    return dict(
        model=model, step=step, optimizer=opt, batches=batches, clip=5.0, scheduler=None
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
