import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "zero_grad_misplaced"
ALSO_OK = {"missing_zero_grad"}
SOURCE = "https://github.com/cloneofsimo/lora/issues/263"
FIX = "zero_grad before backward"


def _build(good):
    torch.manual_seed(510)
    protos = torch.randn(5, 20)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 5, (32,))
        batches.append((protos[y] + 0.8 * torch.randn(32, 20), y))
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def step(batch):
        loss = F.cross_entropy(model(batch[0]), batch[1])
        if good:
            opt.zero_grad()
        loss.backward()
        if not good:
            opt.zero_grad()
        opt.step()
        return loss

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
