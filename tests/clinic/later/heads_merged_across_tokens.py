import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "wrong_axis"
ALSO_OK = {"target_leak"}
SOURCE = "https://github.com/jsbaan/transformer-from-scratch/pull/6"
FIX = "values.transpose(1, 2) before values.reshape(batch, time, width)"


class Attention(nn.Module):
    def __init__(self, good, width=32, heads=4):
        super().__init__()
        self.good, self.heads = good, heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        batch, time, width = x.shape
        parts = self.qkv(x).view(batch, time, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        if self.good:
            y = y.transpose(1, 2)
        return self.out(y.reshape(batch, time, width))


class Writer(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.token = nn.Embedding(20, 32)
        self.place = nn.Parameter(0.1 * torch.randn(16, 32))
        self.blocks = nn.ModuleList(Attention(good) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(2))
        self.head = nn.Linear(32, 20)

    def forward(self, ids):
        h = self.token(ids) + self.place[: ids.shape[1]]
        for block, norm in zip(self.blocks, self.norms, strict=True):
            h = h + block(norm(h))
        return self.head(h)


def _loss(model, ids):
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _build(good):
    torch.manual_seed(708)
    chances = (2 * torch.randn(20, 20)).softmax(1)
    batches = []
    for _ in range(120):
        ids = torch.randint(0, 20, (32, 17))
        for t in range(1, 17):
            ids[:, t] = torch.multinomial(chances[ids[:, t - 1]], 1).squeeze(1)
        batches.append(ids)
    model = Writer(good)
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
