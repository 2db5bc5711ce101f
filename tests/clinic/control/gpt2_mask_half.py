"""The causal mask of a GPT multiplies hidden positions by 1e10, which the cast of the
model to float16 turns to infinity. Every step overflows and is skipped."""

import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_overflow"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/huggingface/transformers/issues/382"
FIX = "mask with 1e4, which float16 can hold, as BERT does"

VOCAB, LENGTH = 20, 12


class Block(nn.Module):
    def __init__(self, width, heads, masked_bias):
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(width)
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.register_buffer("bias", torch.tril(torch.ones(LENGTH, LENGTH)))
        self.register_buffer("masked_bias", torch.tensor(masked_bias))

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).chunk(3, dim=-1)
        q, k, v = (a.view(b, t, self.heads, -1).transpose(1, 2) for a in (q, k, v))
        score = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        seen = self.bias[:t, :t]
        score = score * seen - self.masked_bias * (1 - seen)
        y = (score.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, t, w)
        x = x + self.c_proj(y)
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    def __init__(self, masked_bias, width=40):
        super().__init__()
        self.wte = nn.Embedding(VOCAB, width)
        self.wpe = nn.Embedding(LENGTH, width)
        self.h = nn.ModuleList(Block(width, 4, masked_bias) for _ in range(2))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, VOCAB, bias=False)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def _build(good):
    torch.manual_seed(4104)
    follow = torch.stack([torch.randperm(VOCAB)[:2] for _ in range(VOCAB)])
    batches = []
    for _ in range(100):
        ids = [torch.randint(VOCAB, (16,))]
        for _ in range(LENGTH - 1):
            ids.append(follow[ids[-1], torch.randint(2, (16,))])
        batches.append(torch.stack(ids, dim=1))
    model = GPT2(1e4 if good else 1e10).half()
    params = list(model.parameters())
    masters = [nn.Parameter(p.detach().float()) for p in params]
    opt = torch.optim.AdamW(masters, lr=3e-3)
    state = dict(scale=1024.0)

    def step(ids):
        model.zero_grad()
        logits = model(ids)[:, :-1].float()
        loss = F.cross_entropy(logits.reshape(-1, VOCAB), ids[:, 1:].reshape(-1))
        (loss * state["scale"]).backward()
        if not all(p.grad.isfinite().all() for p in params):
            state["scale"] = max(state["scale"] / 2, 1.0)
            return loss.item()
        for p, m in zip(params, masters, strict=False):
            m.grad = p.grad.float() / state["scale"]
        opt.step()
        with torch.no_grad():
            for p, m in zip(params, masters, strict=False):
                p.copy_(m)
        return loss.item()

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
