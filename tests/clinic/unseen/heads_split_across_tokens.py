import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "wrong_axis"
ALSO_OK = {"target_leak"}
SOURCE = "https://github.com/datawhalechina/deep-learning-notes/pull/11"
FIX = "view(batch, time, heads, -1).transpose(1, 2), not view(batch, heads, time, -1)"


class Block(nn.Module):
    def __init__(self, good, width=32, heads=4):
        super().__init__()
        self.good, self.heads = good, heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def split(self, x):
        batch, time, width = x.shape
        if self.good:
            return x.view(batch, time, self.heads, -1).transpose(1, 2)
        return x.view(batch, self.heads, time, width // self.heads)

    def forward(self, x):
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).reshape(x.shape) if self.good else y.reshape(x.shape)
        return x + self.out(y)


class Writer(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.token = nn.Embedding(16, 32)
        self.place = nn.Parameter(0.1 * torch.randn(12, 32))
        self.blocks = nn.Sequential(Block(good), Block(good))
        self.head = nn.Linear(32, 16)

    def forward(self, ids):
        return self.head(self.blocks(self.token(ids) + self.place))


def _loss(model, ids):
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _build(good):
    torch.manual_seed(804)
    chances = (2 * torch.randn(16, 16)).softmax(1)
    batches = []
    for _ in range(100):
        ids = torch.randint(0, 16, (32, 13))
        for t in range(1, 13):
            ids[:, t] = torch.multinomial(chances[ids[:, t - 1]], 1).squeeze(1)
        batches.append(ids)
    model = Writer(good)
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
