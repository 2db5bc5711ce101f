"""Attention by random features of the exponential runs in float16, whose range is too
small for the features and their sums over the sequence. Within some dozen steps the
loss is not a number."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_overflow"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/facebookresearch/xformers/issues/96"
FIX = "compute the features and the sums of attention in float32"

VOCAB, WIDTH, LENGTH, HEADS, FEATURES = 24, 32, 48, 1, 128


class Favor(nn.Module):
    def __init__(self, full):
        super().__init__()
        self.full = full
        dim = WIDTH // HEADS
        rows = torch.linalg.qr(torch.randn(FEATURES // dim, dim, dim))[0]
        rows = rows.reshape(FEATURES, dim) * dim**0.5
        self.register_buffer("rows", rows)

    def features(self, x):
        x = x * x.shape[-1] ** -0.25
        offset = x.pow(2).sum(-1, keepdim=True) / 2
        return torch.exp(x @ self.rows.T.to(x.dtype) - offset)

    def attend(self, q, k, v):
        q, k = self.features(q), self.features(k)
        top = q @ (k.transpose(-2, -1) @ v)
        return top / (q @ k.sum(-2)[..., None])

    def forward(self, q, k, v):
        if self.full:
            with torch.autocast("cpu", enabled=False):
                return self.attend(q.float(), k.float(), v.float())
        return self.attend(q, k, v)


class Block(nn.Module):
    def __init__(self, full):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.favor = Favor(full)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, x):
        b, t, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, HEADS, WIDTH // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = self.favor(q, k, v).transpose(1, 2).reshape(b, t, WIDTH)
        x = x + self.out(y)
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    def __init__(self, full):
        super().__init__()
        self.embed = nn.Embedding(VOCAB + 1, WIDTH)
        self.pos = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block(full) for _ in range(1))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB)

    def forward(self, ids):
        x = self.embed(ids) + self.pos.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def _loss(model, batch):
    ids, labels = batch
    with torch.autocast("cpu", dtype=torch.float16):
        logits = model(ids)
    return F.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100
    )


def _build(full):
    torch.manual_seed(96)
    topics = torch.softmax(3 * torch.randn(4, VOCAB), -1)
    batches = []
    for _ in range(130):
        topic = torch.randint(4, (4,))
        text = torch.multinomial(topics[topic], LENGTH, replacement=True)
        text[:, 1::2] = (text[:, ::2] + 3) % VOCAB
        hidden = torch.rand(text.shape) < 0.25
        ids = torch.where(hidden, VOCAB, text)
        batches.append((ids, torch.where(hidden, text, -100)))
    model = Encoder(full)
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
