import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "resume_state_lost"
ALSO_OK = {"lr_too_high", "warmup_missing"}
SOURCE = "https://github.com/PolymathicAI/the_well/pull/63"
FIX = "save and load lr_scheduler.state_dict() with the optimizer's"
LENGTH = 600


def _rate(step):
    return min(1.0, (step + 1) / 5) * max(0.002, 1 - step / LENGTH)


def _build(good):
    torch.manual_seed(709)
    rule = torch.randn(12, 6)
    batches = []
    for _ in range(100):
        x = torch.randn(16, 12)
        batches.append((x, (x @ rule + 1.0 * torch.randn(16, 6)).argmax(1)))
    model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 6))
    opt = torch.optim.SGD(model.parameters(), lr=0.15, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(opt, _rate)
    for step in range(LENGTH):
        x, y = batches[step % 100]
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        opt.step()
        scheduler.step()
    if not good:
        for group in opt.param_groups:
            group["lr"] = group["initial_lr"] = 0.15
        scheduler = torch.optim.lr_scheduler.LambdaLR(opt, _rate)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        scheduler=scheduler,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
