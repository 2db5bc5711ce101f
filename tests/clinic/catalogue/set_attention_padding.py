"""Attention over sets of different size: the rows of padded queries are masked
everywhere, so their softmax is nan. These rows are cut off again, so the first loss is
fine, but everything is nan after the first update."""

import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/dmlc/dgl/issues/2657"
FIX = "after the softmax, set the weights at masked places to zero"

WIDTH, HEADS = 32, 4


def pad(rows, lengths):
    return nn.utils.rnn.pad_sequence(torch.split(rows, lengths), batch_first=True)


def pack(padded, lengths):
    return torch.cat([row[:n] for row, n in zip(padded, lengths, strict=False)])


class MultiHeadAttention(nn.Module):
    def __init__(self, clean):
        super().__init__()
        self.clean = clean
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.o = nn.Linear(WIDTH, WIDTH, bias=False)
        self.ffn = nn.Sequential(nn.Linear(WIDTH, 64), nn.ReLU(), nn.Linear(64, WIDTH))
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def attend(self, x, mem, len_x, len_mem):
        split = (len(len_x), -1, HEADS, WIDTH // HEADS)
        q = pad(self.q(x), len_x).view(split)
        k = pad(self.k(mem), len_mem).view(split)
        v = pad(self.v(mem), len_mem).view(split)
        e = torch.einsum("bxhd,byhd->bhxy", q, k) / math.sqrt(WIDTH // HEADS)
        mask = torch.zeros(len(len_x), max(len_x), max(len_mem))
        for i, (n, m) in enumerate(zip(len_x, len_mem, strict=False)):
            mask[i, :n, :m] = 1
        mask = mask.unsqueeze(1)
        alpha = torch.softmax(e.masked_fill(mask == 0, -float("inf")), dim=-1)
        if self.clean:
            alpha = alpha.masked_fill(mask == 0, 0.0)
        out = torch.einsum("bhxy,byhd->bxhd", alpha, v)
        return self.o(pack(out.reshape(len(len_x), -1, WIDTH), len_x))

    def forward(self, x, mem, len_x, len_mem):
        x = self.norm1(x + self.attend(x, mem, len_x, len_mem))
        return self.norm2(x + self.ffn(x))


class SetTransformer(nn.Module):
    def __init__(self, clean):
        super().__init__()
        self.embed = nn.Linear(4, WIDTH)
        self.layers = nn.ModuleList(MultiHeadAttention(clean) for _ in range(2))
        self.seed = nn.Parameter(torch.randn(1, WIDTH) / 4)
        self.pool = MultiHeadAttention(clean)
        self.out = nn.Linear(WIDTH, 2)

    def forward(self, inputs):
        points, lengths = inputs
        h = self.embed(points)
        for layer in self.layers:
            h = layer(h, h, lengths, lengths)
        seeds = self.seed.repeat(len(lengths), 1)
        return self.out(self.pool(seeds, h, [1] * len(lengths), lengths))


def _build(good):
    torch.manual_seed(523)
    probe = torch.randn(4, 2) / 2
    batches = []
    for _ in range(90):
        lengths = torch.randint(3, 9, (32,)).tolist()
        points = torch.randn(sum(lengths), 4)
        y = torch.stack(
            [(row @ probe).max(0)[0] - 1 for row in torch.split(points, lengths)]
        )
        batches.append(((points, lengths), y))
    model = SetTransformer(good)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss_fn=F.mse_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
