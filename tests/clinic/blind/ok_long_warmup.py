import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "the rate still rises when the watch ends"
FIX = "nothing to fix"


def table(n, batch, features=20, classes=5, noise=0.5):
    protos = torch.randn(classes, features)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, features), y))
    return out


def make():
    torch.manual_seed(134)
    batches = table(80, 32)
    model = nn.Sequential(
        nn.Linear(20, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 5)
    )
    opt = torch.optim.AdamW(model.parameters(), lr=0.0)
    seen = [0]

    def scheduler():
        seen[0] += 1
        opt.param_groups[0]["lr"] = 2e-3 * min(1, seen[0] / 200)

    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        clip=1.0,
        scheduler=scheduler,
    )


make_fixed = make
