import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "nothing to fix: a small rate on a trained model moves slowly"


def make():
    torch.manual_seed(126)
    protos = torch.randn(5, 16)
    batches = []
    for _ in range(80):
        y = torch.randint(0, 5, (32,))
        batches.append((protos[y] + 1.6 * torch.randn(32, 16), y))
    model = nn.Sequential(
        nn.Linear(16, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 5)
    )
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    for x, y in batches[:40]:
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        opt.step()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-4)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches[40:],
        clip=1.0,
    )


make_fixed = make
