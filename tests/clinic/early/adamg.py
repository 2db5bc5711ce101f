"""A home-made optimizer of the Adam family takes one minus the correction once too
often, so both moments are divided by beta to the power of the step. The steps grow by
some percent each time; the loss falls at first, then gradient and loss explode."""

import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://github.com/kozistr/pytorch_optimizer/issues/305"
FIX = "divide by 1 - beta ** step, as debias() already returns it"

VOCAB, LENGTH, WIDTH = 40, 24, 48


class AdamG(torch.optim.Optimizer):
    def __init__(self, params, correction, lr=1.0, betas=(0.95, 0.999, 0.95), eps=1e-8):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps))
        self.correction = correction
        self.p, self.q = 0.2, 0.24
        self.t = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.t += 1
        for group in self.param_groups:
            b1, b2, b3 = group["betas"]
            c1, c2 = self.correction(b1, self.t), self.correction(b2, self.t)
            size = min(group["lr"], 1 / math.sqrt(self.t))
            for p in group["params"]:
                if p.grad is None:
                    continue
                st = self.state[p]
                if not st:
                    st["m"] = torch.zeros_like(p)
                    st["v"] = torch.zeros_like(p)
                    st["r"] = torch.zeros_like(p)
                st["v"].mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                st["r"].mul_(b3).add_(self.p * st["v"].pow(self.q), alpha=1 - b3)
                st["m"].mul_(b1).addcmul_(st["r"], p.grad, value=1 - b1)
                denom = (st["v"] / c2).sqrt_().add_(group["eps"])
                p.addcdiv_(st["m"] / c1, denom, value=-size)


def debias(beta, step):
    return 1.0 - beta**step


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, x):
        n = x.shape[1]
        mask = torch.ones(n, n, dtype=torch.bool).triu(1)
        h = self.n1(x)
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.n2(x))


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB)

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.tok(ids))))


def _loss(output, target):
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


def _build(correction):
    torch.manual_seed(3050)
    follow = torch.randint(0, VOCAB, (VOCAB, 3))
    batches = []
    for _ in range(110):
        ids = torch.randint(0, VOCAB, (12, LENGTH + 1))
        for t in range(1, LENGTH + 1):
            pick = torch.randint(0, 3, (12,))
            ids[:, t] = follow[ids[:, t - 1], pick]
        batches.append((ids[:, :-1], ids[:, 1:]))
    model = LM()
    opt = AdamG(model.parameters(), correction)
    return dict(model=model, loss_fn=_loss, optimizer=opt, batches=batches)


def make():
    return _build(lambda beta, step: 1.0 - debias(beta, step))


def make_fixed():
    return _build(debias)
