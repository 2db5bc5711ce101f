import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "warmup_missing"
ALSO_OK = {"lr_too_high", "deep_no_skip_or_norm"}
SOURCE = "https://github.com/songlab-cal/tape/issues/77"
FIX = "warm up over the first 50 steps"


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.att = nn.MultiheadAttention(32, 2, batch_first=True)
        self.n1, self.n2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.ff = nn.Sequential(nn.Linear(32, 96), nn.GELU(), nn.Linear(96, 32))

    def forward(self, h):
        h = self.n1(h + self.att(h, h, h, need_weights=False)[0])
        return self.n2(h + self.ff(h))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(16, 32)
        self.pos = nn.Parameter(0.1 * torch.randn(10, 32))
        self.blocks = nn.Sequential(*(Block() for _ in range(9)))
        self.out = nn.Linear(32, 16)

    def forward(self, x):
        return self.out(self.blocks(self.emb(x) + self.pos))


def loss_fn(out, y):
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


def _build(good):
    torch.manual_seed(119)
    batches = []
    for _ in range(80):
        seq = (
            torch.randint(0, 16, (16, 1))
            + torch.randint(1, 3, (16, 1)) * torch.arange(11)
        ) % 16
        batches.append((seq[:, :-1], seq[:, 1:]))
    model = Model()
    opt = torch.optim.Adam(model.parameters(), lr=2e-2, betas=(0.9, 0.98))
    count = [0]

    def warm():
        count[0] += 1
        opt.param_groups[0]["lr"] = 2e-2 * min(1.0, (count[0] + 1) / 60)

    if good:
        opt.param_groups[0]["lr"] = 2e-2 / 60
    return dict(
        model=model,
        loss_fn=loss_fn,
        optimizer=opt,
        batches=batches,
        scheduler=warm if good else None,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
