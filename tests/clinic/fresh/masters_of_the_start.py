"""A checkpoint is loaded into the half weights, not into their float32 masters.

The first update copies the old masters back over what was loaded.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "resume_state_lost"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/radixark/miles/pull/2572"
FIX = "copy the loaded weights into the masters before the first update"


def _train(model, opt, batches):
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()


def _build(good):
    torch.manual_seed(913)
    rule = torch.randn(12, 5)
    batches = []
    for _ in range(160):
        x = torch.randn(32, 12)
        batches.append((x, (x @ rule).argmax(1)))
    shape = [nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 5)]
    model = nn.Sequential(*shape)
    masters = [p.detach().clone() for p in model.parameters()]
    _train(model, torch.optim.Adam(model.parameters(), lr=3e-3), batches * 3)
    if good:
        masters = [p.detach().clone() for p in model.parameters()]
    opt = torch.optim.Adam(masters, lr=1e-4)

    def step(batch):
        x, y = batch
        loss = F.cross_entropy(model(x), y)
        model.zero_grad()
        loss.backward()
        for master, p in zip(masters, model.parameters(), strict=True):
            master.grad = p.grad.clone()
        opt.step()
        with torch.no_grad():
            for master, p in zip(masters, model.parameters(), strict=True):
                p.copy_(master.bfloat16().float())
        return loss.item()

    return dict(model=model, step=step, optimizer=opt, batches=batches[:100])


def make():
    return _build(False)


def make_fixed():
    return _build(True)
