"""The adapter matrices are kept in float16, where Adam's eps of 1e-8 rounds to zero.
The second loss is not a number, at any learning rate."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_underflow"
ALSO_OK = {"optimizer_misconfigured", "fp16_overflow", "loss_numerics"}
SOURCE = "https://github.com/cactus-compute/needle/issues/53"
FIX = "keep the adapter matrices in float32"

VOCAB, WIDTH, LENGTH = 32, 48, 24


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 4, WIDTH // 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, WIDTH))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.pos = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids):
        x = self.embed(ids) + self.pos[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class LoraLinear(nn.Module):
    def __init__(self, base, rank, alpha, dtype):
        super().__init__()
        self.base = base
        self.a = nn.Parameter(
            (torch.randn(rank, base.in_features) / base.in_features**0.5).to(dtype)
        )
        self.b = nn.Parameter(torch.zeros(base.out_features, rank, dtype=dtype))
        self.scale = alpha / rank

    def forward(self, x):
        delta = x.to(self.a.dtype) @ self.a.T @ self.b.T
        return self.base(x) + self.scale * delta.float()


def _loss(model, ids):
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _text(table, count):
    ids = torch.randint(VOCAB, (count, 1))
    for _ in range(LENGTH):
        ids = torch.cat([ids, torch.multinomial(table[ids[:, -1]], 1)], 1)
    return ids


def _build(dtype):
    torch.manual_seed(5301)
    general = torch.softmax(3 * torch.randn(VOCAB, VOCAB), -1)
    domain = torch.softmax(3 * torch.randn(VOCAB, VOCAB), -1)
    model = Decoder()
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        opt.zero_grad()
        _loss(model, _text(general, 16)).backward()
        opt.step()
    model.requires_grad_(False)
    for layer in model.layers:
        layer.attn.qkv = LoraLinear(layer.attn.qkv, 8, 16, dtype)
        layer.attn.out = LoraLinear(layer.attn.out, 8, 16, dtype)
        layer.up = LoraLinear(layer.up, 8, 16, dtype)
        layer.down = LoraLinear(layer.down, 8, 16, dtype)
    batches = [_text(domain, 10) for _ in range(100)]
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(torch.float16)


def make_fixed():
    return _build(torch.float32)
