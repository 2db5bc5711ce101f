import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_overflow"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/afiaka87/glide-finetune/issues/5"
FIX = "1e-8 is 0 in float16: eps 1e-4, or keep float32 weights"


def _build(good):
    torch.manual_seed(21)
    dtype = torch.float32 if good else torch.float16
    protos = torch.randn(5, 16)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 5, (32,))
        batches.append(((protos[y] + 0.5 * torch.randn(32, 16)).to(dtype), y))
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 5)).to(dtype)
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
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
