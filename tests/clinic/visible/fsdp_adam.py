"""Weights and the moments of AdamW are held in bfloat16, since the optimizer takes
over the type of the parameters. The loss flattens at a far higher value than with
float32 masters."""

import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "low_precision_updates"
ALSO_OK = set()
SOURCE = "https://github.com/areal-project/AReaL/issues/1292"
FIX = "keep float32 weights for the optimizer and compute in bfloat16"

VOCAB, WIDTH, LENGTH = 32, 128, 16
LR = 2e-4


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, x):
        b, t, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, 4, WIDTH // 4)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, WIDTH))
        return x + self.mlp(self.norm2(x))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.pos = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids):
        x = self.embed(ids) + self.pos.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def _loss(model, ids):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids[:, :-1])[:, 1:]
    return F.cross_entropy(logits.float().flatten(0, 1), ids[:, 2:].flatten())


def _text(table):
    ids = torch.randint(VOCAB, (10, 2))
    for _ in range(LENGTH - 2):
        following = table[ids[:, -2] // 8, ids[:, -1]]
        ids = torch.cat([ids, following[:, None]], 1)
    return ids


def _build(optimizer_dtype):
    torch.manual_seed(1292)
    known = torch.stack([torch.randperm(VOCAB) for _ in range(4)])
    wanted = torch.stack([torch.randperm(VOCAB) for _ in range(4)])
    model = Model()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(60):
        opt.zero_grad()
        _loss(model, _text(known)).backward()
        opt.step()
    batches = [_text(wanted) for _ in range(120)]
    model = model.to(torch.bfloat16).to(optimizer_dtype)
    opt = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    warm = 12
    plan = torch.optim.lr_scheduler.LambdaLR(
        opt,
        lambda t: min((t + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * t / 130)),
    )
    return dict(
        model=model,
        loss=_loss,
        optimizer=opt,
        batches=batches,
        clip=1.0,
        scheduler=plan.step,
    )


def make():
    return _build(torch.bfloat16)


def make_fixed():
    return _build(torch.float32)
