"""The recurrent layer of a hybrid language model has gradients of a billion, and one
norm for all parameters is clipped to 1. The other layers get next to nothing, less
than Adam's eps, and the loss stalls."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "clip_too_tight"
ALSO_OK = {"recurrent_explosion"}
SOURCE = "https://github.com/NVIDIA/Megatron-LM/pull/5395"
FIX = "do not clip by the norm over all parameters"

VOCAB, WIDTH, LENGTH = 32, 48, 40
GAIN = 8.0


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.in_proj = nn.Linear(WIDTH, WIDTH)
        self.state = nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.normal_(self.state.weight, std=GAIN / WIDTH**0.5)
        self.norm = nn.LayerNorm(WIDTH)
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        u = self.in_proj(x)
        s, out = torch.zeros_like(u[:, 0]), []
        for t in range(u.shape[1]):
            s = torch.tanh(self.state(s) + u[:, t])
            out.append(s)
        return self.out_proj(self.norm(torch.stack(out, 1)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.mixer = Recurrent()
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x):
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Hybrid(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.block = Block()
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids):
        return self.head(self.norm(self.block(self.embed(ids))))


def _loss(model, ids):
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _build(clip):
    torch.manual_seed(5395)
    table = torch.softmax(3 * torch.randn(VOCAB, VOCAB), -1)
    batches = []
    for _ in range(120):
        ids = torch.randint(VOCAB, (16, 1))
        for _ in range(LENGTH):
            ids = torch.cat([ids, torch.multinomial(table[ids[:, -1]], 1)], 1)
        batches.append(ids)
    model = Hybrid()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3, eps=1e-8, weight_decay=0.01)
    setup = dict(model=model, loss=_loss, optimizer=opt, batches=batches)
    if clip:
        setup["clip"] = clip
    return setup


def make():
    return _build(1.0)


def make_fixed():
    return _build(None)
