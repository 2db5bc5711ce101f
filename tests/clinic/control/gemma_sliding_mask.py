"""In every second layer the mask of the sliding window is multiplied into the additive
causal mask, which turns it into zeros. The training loss falls to almost nothing."""

import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "target_leak"
ALSO_OK = set()
SOURCE = "https://github.com/huggingface/transformers/issues/31673"
FIX = "put the lowest number where the window ends, keep the causal mask elsewhere"

VOCAB, LENGTH, WINDOW = 24, 16, 6


class Layer(nn.Module):
    def __init__(self, width, heads, sliding, where):
        super().__init__()
        self.heads, self.sliding, self.where = heads, sliding, where
        self.input_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.post_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def window(self, mask):
        if not self.sliding:
            return mask
        if self.where:
            beyond = torch.tril(torch.ones_like(mask, dtype=torch.bool), -WINDOW)
            return torch.where(beyond, torch.finfo(mask.dtype).min, mask)
        return mask * torch.tril(torch.ones_like(mask), diagonal=-WINDOW)

    def forward(self, x, mask):
        mask = self.window(mask)
        b, t, w = x.shape
        q, k, v = self.qkv(self.input_norm(x)).chunk(3, dim=-1)
        q, k, v = (a.view(b, t, self.heads, -1).transpose(1, 2) for a in (q, k, v))
        score = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask
        y = (score.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, t, w)
        x = x + self.out(y)
        return x + self.mlp(self.post_norm(x))


class Gemma(nn.Module):
    def __init__(self, where, width=64):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, width)
        self.place = nn.Embedding(LENGTH, width)
        self.layers = nn.ModuleList(
            Layer(width, 4, sliding=i % 2 == 0, where=where) for i in range(2)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCAB, bias=False)

    def forward(self, ids):
        t = ids.shape[1]
        x = self.embed(ids) + self.place.weight[:t]
        low = torch.finfo(x.dtype).min
        mask = torch.triu(torch.full((t, t), low), diagonal=1)[None, None]
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(self.norm(x))


def _loss(model, ids):
    logits = model(ids)[:, :-1]
    return F.cross_entropy(logits.reshape(-1, VOCAB), ids[:, 1:].reshape(-1))


def _build(good):
    torch.manual_seed(4101)
    follow = torch.stack([torch.randperm(VOCAB)[:5] for _ in range(VOCAB)])
    batches = []
    for _ in range(150):
        ids = [torch.randint(VOCAB, (48,))]
        for _ in range(LENGTH - 1):
            ids.append(follow[ids[-1], torch.randint(5, (48,))])
        batches.append(torch.stack(ids, dim=1))
    model = Gemma(good)
    opt = torch.optim.AdamW(model.parameters(), lr=4e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
