import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_overflow"
ALSO_OK = set()
SOURCE = "github.com/openvla/openvla/issues/30 (same kind)"
FIX = "float32 for the norm"


class Pooled(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype
        self.inp, self.mix, self.out = (
            nn.Linear(32, 512),
            nn.Linear(512, 512),
            nn.Linear(512, 4),
        )

    def forward(self, x):
        h = torch.relu(self.inp(x)).to(self.dtype) * 30
        power = h.square().sum(1, keepdim=True)
        h = (h * torch.rsqrt(power / 512 + 1e-3)).float()
        return self.out(torch.relu(self.mix(h)))


def _build(good):
    torch.manual_seed(120)
    protos = torch.randn(4, 32)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 4, (32,))
        batches.append((3 * protos[y] + torch.randn(32, 32), y))
    model = Pooled(torch.float32 if good else torch.float16)
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        clip=1.0,
        scheduler=None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
