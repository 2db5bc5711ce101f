"""Under autocast to float16 the attention of a detector multiplies queries and keys
first and scales afterwards. On some batches the product overflows: the loss is NaN."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_overflow"
ALSO_OK = {"attention_logits_grow", "loss_numerics"}
SOURCE = "https://github.com/ultralytics/ultralytics/pull/24990"
FIX = "scale the query before the product with the key"

SIZE, CLASSES = 4, 6


class Attention(nn.Module):
    def __init__(self, dim, heads, first):
        super().__init__()
        self.heads, self.first = heads, first
        self.key_dim = dim // heads
        self.scale = self.key_dim**-0.5
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.norm = nn.BatchNorm2d(3 * dim)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.norm(self.qkv(x)).view(b, 3, self.heads, -1, h * w).unbind(1)
        if self.first:
            attn = (q * self.scale).transpose(-2, -1) @ k
        else:
            attn = (q.transpose(-2, -1) @ k) * self.scale
        y = v @ attn.softmax(dim=-1).transpose(-2, -1)
        return self.proj(y.reshape(b, c, h, w))


class Detector(nn.Module):
    def __init__(self, first, dim=64):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, dim, 3, padding=1), nn.SiLU())
        self.attn = Attention(dim, 1, first)
        self.ffn = nn.Sequential(
            nn.Conv2d(dim, dim, 1), nn.SiLU(), nn.Conv2d(dim, dim, 1)
        )
        self.head = nn.Linear(dim, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.attn(x)
        x = x + self.ffn(x)
        return self.head(x.mean((2, 3)))


def _build(good):
    torch.manual_seed(4105)
    look = torch.randn(CLASSES, 3, SIZE, SIZE)
    batches = []
    for _ in range(100):
        y = torch.randint(CLASSES, (12,))
        x = look[y] + 0.7 * torch.randn(12, 3, SIZE, SIZE)
        batches.append((x, y))
    model = Detector(good)
    with torch.no_grad():
        model.attn.norm.weight[:128].fill_(36.0)
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(batch):
        x, y = batch
        opt.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = F.cross_entropy(model(x).float(), y)
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        scaler.step(opt)
        scaler.update()
        return loss.item()

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
