import torch
from torch import nn

CAUSE = "fp16_underflow"
ALSO_OK = {"fp16_overflow", "low_precision_updates"}
SOURCE = "https://github.com/warner-benjamin/optimi/issues/15 (same kind)"
FIX = "scale the loss"


class Net(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype
        self.net = nn.Sequential(
            nn.Linear(16, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 4)
        )

    def forward(self, x):
        with torch.autocast("cpu", dtype=self.dtype):
            return self.net(x).float()


def _build(good):
    torch.manual_seed(518)
    w = torch.randn(16, 4) / 4
    batches = []
    for _ in range(80):
        x = torch.randn(64, 16)
        batches.append((x, torch.sin(x @ w)))
    model = Net(torch.bfloat16 if good else torch.float16)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3, eps=1e-16)
    return dict(
        model=model,
        loss_fn=lambda out, y: 1e-5 * (out - y).abs().mean(),
        optimizer=opt,
        batches=batches,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
