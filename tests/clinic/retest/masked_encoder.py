"""The attention of an encoder fills padded keys with minus infinity, and now and then
a whole sample is padding. The softmax of such a row is not a number, and from that
batch on neither is the loss."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"bad_data"}
SOURCE = "https://github.com/pytorch/pytorch/issues/40932"
FIX = "fill padded keys with -1e8, not with minus infinity"

VOCAB = 30
PAD = 0
LENGTH = 14


class SelfAttention(nn.Module):
    def __init__(self, width, heads, fill):
        super().__init__()
        self.heads = heads
        self.fill = fill
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x, key_padding_mask):
        b, t, c = x.shape
        q, k, v = self.in_proj(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / (c // self.heads) ** 0.5
        scores = scores.masked_fill(key_padding_mask[:, None, None], self.fill)
        y = torch.softmax(scores, -1) @ v
        return self.out_proj(y.transpose(1, 2).reshape(b, t, c))


class EncoderLayer(nn.Module):
    def __init__(self, width, heads, fill):
        super().__init__()
        self.self_attn = SelfAttention(width, heads, fill)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.ff = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x, mask):
        x = self.norm1(x + self.self_attn(x, mask))
        return self.norm2(x + self.ff(x))


class Encoder(nn.Module):
    def __init__(self, fill, width=32, heads=4, classes=4):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, width, padding_idx=PAD)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, fill) for _ in range(2))
        self.out = nn.Linear(width, classes)

    def forward(self, src):
        mask = src == PAD
        x = self.embed(src)
        for layer in self.layers:
            x = layer(x, mask)
        keep = (~mask).unsqueeze(-1).float()
        pooled = (x * keep).sum(1) / keep.sum(1).clamp(min=1)
        return self.out(pooled)


def _build(fill):
    torch.manual_seed(5344)
    batches = []
    for _ in range(110):
        label = torch.randint(4, (32,))
        own = 1 + 7 * label[:, None] + torch.randint(7, (32, LENGTH))
        other = torch.randint(1, VOCAB, (32, LENGTH))
        src = torch.where(torch.rand(32, LENGTH) < 0.5, own, other)
        length = torch.randint(4, LENGTH + 1, (32,))
        length[torch.rand(32) < 0.002] = 0
        src[torch.arange(LENGTH)[None] >= length[:, None]] = PAD
        batches.append((src, label))
    model = Encoder(fill)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(
        model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches, clip=5.0
    )


def make():
    return _build(float("-inf"))


def make_fixed():
    return _build(-1e8)
