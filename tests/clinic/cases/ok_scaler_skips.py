import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "https://github.com/MzeroMiko/VMamba/issues/252"
FIX = "nothing to fix: the scaler skips a few steps, then finds its scale"


def make():
    torch.manual_seed(32)
    protos = torch.randn(6, 20)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 6, (32,))
        batches.append((protos[y] + 0.5 * torch.randn(32, 20), y))
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 6))
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)

    def step(batch):
        opt.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = F.cross_entropy(model(batch[0]).float(), batch[1])
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
        return loss

    return dict(
        model=model, step=step, optimizer=opt, batches=batches, clip=1.0, scheduler=None
    )


make_fixed = make
