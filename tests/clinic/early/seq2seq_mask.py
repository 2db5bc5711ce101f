"""The attention mask of a translation model fills with minus infinity, and for the
fill positions it covers the whole row. The loss is NaN from the first sentence pair
that has padding."""

import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/jadore801120/attention-is-all-you-need-pytorch/issues/5"
FIX = "fill masked scores with a large finite number instead of minus infinity"

PAD, BOS, VOCAB, LENGTH, WIDTH = 0, 1, 30, 10, 48


class Attention(nn.Module):
    def __init__(self, width, heads, fill):
        super().__init__()
        self.heads, self.fill = heads, fill
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.o = nn.Linear(width, width)

    def forward(self, x, memory, mask):
        b, n, w = x.shape

        def split(t):
            return t.view(b, t.shape[1], self.heads, -1).transpose(1, 2)

        q, k, v = split(self.q(x)), split(self.k(memory)), split(self.v(memory))
        scores = q @ k.transpose(-2, -1) / math.sqrt(w // self.heads)
        scores = scores.masked_fill(mask.unsqueeze(1), self.fill)
        out = F.softmax(scores, dim=-1) @ v
        return self.o(out.transpose(1, 2).reshape(b, n, w))


class Layer(nn.Module):
    def __init__(self, width, fill, cross):
        super().__init__()
        self.own = Attention(width, 4, fill)
        self.cross = Attention(width, 4, fill) if cross else None
        self.ff = nn.Sequential(nn.Linear(width, 96), nn.ReLU(), nn.Linear(96, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, x, own_mask, memory=None, cross_mask=None):
        x = self.norms[0](x + self.own(x, x, own_mask))
        if self.cross is not None:
            x = self.norms[1](x + self.cross(x, memory, cross_mask))
        return self.norms[2](x + self.ff(x))


def pad_mask(rows, columns):
    return (rows == PAD).unsqueeze(2) | (columns == PAD).unsqueeze(1)


class Transformer(nn.Module):
    def __init__(self, fill):
        super().__init__()
        self.src = nn.Embedding(VOCAB, WIDTH)
        self.tgt = nn.Embedding(VOCAB, WIDTH)
        self.pos = nn.Embedding(LENGTH + 1, WIDTH)
        self.encoder = nn.ModuleList(Layer(WIDTH, fill, False) for _ in range(1))
        self.decoder = nn.ModuleList(Layer(WIDTH, fill, True) for _ in range(2))
        self.out = nn.Linear(WIDTH, VOCAB)

    def forward(self, src, tgt):
        mem = self.src(src) + self.pos.weight[: src.shape[1]]
        for layer in self.encoder:
            mem = layer(mem, pad_mask(src, src))
        n = tgt.shape[1]
        ahead = torch.ones(n, n, dtype=torch.bool).triu(1)
        x = self.tgt(tgt) + self.pos.weight[:n]
        for layer in self.decoder:
            x = layer(x, pad_mask(tgt, tgt) | ahead, mem, pad_mask(tgt, src))
        return self.out(x)


def _loss(model, batch):
    src, tgt = batch
    logits = model(src, tgt[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), tgt[:, 1:].flatten(), ignore_index=PAD)


def _build(fill):
    torch.manual_seed(411)
    follow = torch.randint(2, VOCAB, (VOCAB, 2))
    words = torch.randperm(VOCAB - 2) + 2
    batches = []
    for _ in range(100):
        src = torch.zeros(16, LENGTH, dtype=torch.long)
        src[:, 0] = torch.randint(2, VOCAB, (16,))
        for t in range(1, LENGTH):
            pick = torch.randint(0, 2, (16,))
            src[:, t] = follow[src[:, t - 1], pick]
        tgt = words[src - 2]
        length = torch.randint(5, LENGTH + 1, (16, 1))
        away = torch.arange(LENGTH) >= length
        src, tgt = src.masked_fill(away, PAD), tgt.masked_fill(away, PAD)
        tgt = torch.cat([torch.full((16, 1), BOS), tgt], 1)
        batches.append((src, tgt))
    model = Transformer(fill)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98))
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(float("-inf"))


def make_fixed():
    return _build(-1e9)
