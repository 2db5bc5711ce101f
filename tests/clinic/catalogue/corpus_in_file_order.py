"""A small language model is pretrained on a corpus in the order of its files, one
source after the other. The loss falls within a source and jumps up at each new one."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unshuffled_data"
ALSO_OK = set()
SOURCE = "https://github.com/Pints-AI/1.5-Pints/issues/10"
FIX = "shuffle the samples of all files before batching"

FILES, OWN, LENGTH, WIDTH = 12, 12, 16, 48
WORDS = 6 * OWN


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.o = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 96), nn.SiLU(), nn.Linear(96, WIDTH))

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.o(F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x + self.mlp(self.norm2(x))


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(WORDS, WIDTH)
        self.pos = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, ids):
        x = self.tok(ids) + self.pos.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def _loss(model, ids):
    return F.cross_entropy(model(ids[:, :-1]).transpose(1, 2), ids[:, 1:])


def write(table, count):
    ids = torch.randint(OWN, (count, 1))
    for _ in range(LENGTH):
        ids = torch.cat([ids, torch.multinomial(table[ids[:, -1]], 1)], dim=1)
    return ids


def _build(good):
    torch.manual_seed(390)
    tables = torch.softmax(2.5 * torch.randn(6, OWN, OWN), dim=-1)
    samples = torch.cat(
        [write(tables[i % 6], 10 * 16) + OWN * (i % 6) for i in range(FILES)]
    )
    if good:
        samples = samples[torch.randperm(len(samples))]
    batches = list(samples.split(16))
    model = LM()
    opt = torch.optim.AdamW(
        model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.1
    )
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
