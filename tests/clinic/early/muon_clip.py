"""The engine orthogonalizes the momentum when it collects the gradients, and clips to
norm one afterwards, so it divides every Muon update by its own norm. The reported
gradient norm is a constant near twenty-four, and the loss falls much more slowly than
it should."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "clip_misplaced"
ALSO_OK = {"clip_too_tight", "optimizer_misconfigured"}
SOURCE = "https://github.com/deepspeedai/DeepSpeed/issues/7713"
FIX = "clip the raw gradients before the orthogonalization, not the update after it"

VOCAB, LENGTH, WIDTH = 24, 16, 64


def newton_schulz(g, steps=5):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm() + 1e-7)
    flip = x.shape[0] > x.shape[1]
    if flip:
        x = x.T
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if flip else x


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.k = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v = nn.Linear(WIDTH, WIDTH, bias=False)
        self.o = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.down = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        b, n, w = x.shape
        h = self.n1(x)
        q, k, v = (
            f(h).view(b, n, 4, -1).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(a.transpose(1, 2).reshape(b, n, w))
        return x + self.down(F.gelu(self.up(self.n2(x))))


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(VOCAB, WIDTH)
        self.pos = nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.3)
        self.blocks = nn.Sequential(*(Block() for _ in range(2)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.tok(ids) + self.pos)))


class Engine:
    def __init__(self, model, optimizer, clip, clip_raw, momentum=0.95):
        self.model, self.optimizer = model, optimizer
        self.clip, self.clip_raw, self.momentum = clip, clip_raw, momentum
        self.hidden = [p for p in model.blocks.parameters() if p.dim() == 2]
        self.buffers = [torch.zeros_like(p) for p in self.hidden]

    @torch.no_grad()
    def muon_update(self):
        for p, buf in zip(self.hidden, self.buffers, strict=True):
            buf.lerp_(p.grad, 1 - self.momentum)
            g = p.grad.lerp(buf, self.momentum)
            grow = max(1.0, p.shape[0] / p.shape[1]) ** 0.5
            p.grad.copy_(newton_schulz(g) * grow)

    def clip_gradients(self):
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)

    def __call__(self, batch):
        x, y = batch
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x).flatten(0, 1), y.flatten())
        loss.backward()
        if self.clip_raw:
            self.clip_gradients()
            self.muon_update()
        else:
            self.muon_update()
            self.clip_gradients()
        self.optimizer.step()
        return loss.detach()


class Pair(torch.optim.Optimizer):
    def __init__(self, model, muon_lr, lr):
        hidden = [p for p in model.blocks.parameters() if p.dim() == 2]
        ids = {id(p) for p in hidden}
        rest = [p for p in model.parameters() if id(p) not in ids]
        groups = [dict(params=hidden, lr=muon_lr, muon=True)]
        groups.append(dict(params=rest, lr=lr, muon=False))
        super().__init__(groups, {})
        self.adam = torch.optim.AdamW(rest, lr=lr, weight_decay=0.0)

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            p.add_(p.grad, alpha=-self.param_groups[0]["lr"])
        self.adam.step()


def _build(clip_raw):
    torch.manual_seed(7713)
    follow = torch.randint(0, VOCAB, (VOCAB, 2))
    batches = []
    for _ in range(100):
        ids = torch.randint(0, VOCAB, (16, LENGTH + 1))
        for t in range(2, LENGTH + 1):
            pick = torch.randint(0, 2, (16,))
            ids[:, t] = follow[ids[:, t - 2], pick]
        batches.append((ids[:, :-1], ids[:, 1:]))
    model = LM()
    opt = Pair(model, muon_lr=0.02, lr=3e-4)
    step = Engine(model, opt, 1.0, clip_raw)
    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
