"""A language model in bfloat16 is fine-tuned from a checkpoint, but the optimizer
made its float32 copy of the weights before the checkpoint was read. The first loss is
that of the checkpoint; after the first update the loss is that of random weights, and
it falls slowly from there."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "resume_state_lost"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/NVIDIA-NeMo/RL/pull/2372"
FIX = "copy the weights to the optimizer's float32 copy after the checkpoint is read"

VOCAB, LENGTH, WIDTH = 32, 16, 48


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        b, n, w = x.shape
        q, k, v = self.qkv(self.n1(x)).view(b, n, 3, 4, -1).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).reshape(b, n, w))
        return x + self.down(F.gelu(self.up(self.n2(x))))


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB)

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.tok(ids))))


class HalfAdamW(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr))
        self.params = [p for g in self.param_groups for p in g["params"]]
        self.main = [p.detach().float().clone() for p in self.params]
        self.inner = torch.optim.AdamW(self.main, lr=lr, weight_decay=0.01)

    @torch.no_grad()
    def reload_model_params(self):
        for m, p in zip(self.main, self.params, strict=True):
            m.copy_(p)

    @torch.no_grad()
    def step(self, closure=None):
        for m, p in zip(self.main, self.params, strict=True):
            m.grad = None if p.grad is None else p.grad.float()
        self.inner.step()
        for m, p in zip(self.main, self.params, strict=True):
            p.copy_(m)


def _text(follow, rows):
    ids = torch.randint(0, VOCAB, (rows, LENGTH + 1))
    for t in range(1, LENGTH + 1):
        pick = torch.randint(0, follow.shape[1], (rows,))
        ids[:, t] = follow[ids[:, t - 1], pick]
    return ids[:, :-1], ids[:, 1:]


def _loss(output, target):
    return F.cross_entropy(output.float().flatten(0, 1), target.flatten())


def _checkpoint(follow):
    model = LM()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(120):
        x, y = _text(follow, 16)
        opt.zero_grad()
        _loss(model(x), y).backward()
        opt.step()
    return model.state_dict()


def _build(reload):
    torch.manual_seed(2371)
    follow = torch.randint(0, VOCAB, (VOCAB, 4))
    state = _checkpoint(follow)
    follow = follow.clone()
    follow[::8] = torch.randint(0, VOCAB, (VOCAB // 8, 4))
    batches = [_text(follow, 16) for _ in range(110)]
    model = LM().to(torch.bfloat16)
    opt = HalfAdamW(model.parameters(), lr=3e-4)
    model.load_state_dict(state)
    if reload:
        opt.reload_model_params()
    return dict(model=model, loss_fn=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
