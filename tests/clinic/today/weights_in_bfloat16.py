import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "low_precision_updates"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/pytorch/ao/pull/1124 (same: workofart/ml-by-hand#85)"
FIX = "float32 weights and autocast"


def _build(good):
    torch.manual_seed(506)
    dtype = torch.float32 if good else torch.bfloat16
    protos = torch.randn(6, 32)
    batches = []
    for _ in range(100):
        y = torch.randint(0, 6, (32,))
        batches.append(((protos[y] + torch.randn(32, 32)).to(dtype), y))
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 6)).to(dtype)
    for p in model.parameters():
        p.data.mul_(2.0)
    opt = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    return dict(
        model=model,
        loss_fn=lambda out, y: F.cross_entropy(out.float(), y),
        optimizer=opt,
        batches=batches,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
