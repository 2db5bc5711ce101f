import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "clip_misplaced"
ALSO_OK = set()
SOURCE = "https://github.com/milesial/Pytorch-UNet/issues/468"
FIX = "unscale first, clip then"


def _build(good):
    torch.manual_seed(22)
    protos = torch.randn(6, 20)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 6, (32,))
        batches.append((protos[y] + 0.5 * torch.randn(32, 20), y))
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 6))
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)

    def step(batch):
        opt.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])
        scaler.scale(loss).backward()
        if good:
            scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
        return loss

    return dict(
        model=model, step=step, optimizer=opt, batches=batches, clip=1.0, scheduler=None
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
