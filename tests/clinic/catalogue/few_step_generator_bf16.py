"""A few-step generator is distilled from a many-step teacher. The whole model was cast
to bfloat16, the weights that AdamW updates as well: most updates are rounded away, and
the generator does not come closer to its teacher."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "low_precision_updates"
ALSO_OK = set()
SOURCE = "https://github.com/tianweiy/CausVid/issues/19"
FIX = "keep the weights in float32 and compute in bfloat16 (autocast)"

TOKENS, WIDTH = 6, 96


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.o = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.o(F.scaled_dot_product_attention(q, k, v))
        return x + self.mlp(self.norm2(x))


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Linear(1, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, t):
        h = x + self.time(torch.full_like(x[..., :1], t))
        for block in self.blocks:
            h = block(h)
        return self.out(self.norm(h))


@torch.no_grad()
def sample(teacher, x, steps):
    for i in range(steps):
        x = x + teacher(x, i / steps) / steps
    return x


def _build(good):
    torch.manual_seed(856)
    teacher = Generator().requires_grad_(False)
    with torch.no_grad():
        teacher.out.weight *= 4
        teacher.time.weight *= 3
    batches = []
    for _ in range(120):
        z = torch.randn(24, TOKENS, WIDTH)
        batches.append((z, sample(teacher, z, 8)))
    model = copy.deepcopy(teacher).requires_grad_(True)
    if not good:
        model = model.to(torch.bfloat16)
    opt = torch.optim.AdamW(model.parameters(), lr=3e-5, betas=(0.9, 0.95))

    def loss(model, batch):
        z, video = batch
        with torch.autocast("cpu", dtype=torch.bfloat16):
            move = model(z.to(torch.bfloat16), 0.0)
        return F.mse_loss(z + move.float(), video)

    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
