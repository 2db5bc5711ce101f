"""A text-to-image denoiser takes its text features from a frozen T5 that runs in
float16. For some texts the values inside T5 pass 65504: its features, and with them the
loss, become nan."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_overflow"
ALSO_OK = set()
SOURCE = "https://github.com/lucidrains/imagen-pytorch/issues/129"
FIX = "run the text encoder in float32"

WORDS, LENGTH, TEXT, WIDTH, PATCHES, PATCH = 40, 6, 32, 48, 4, 8


class T5Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        variance = x.float().pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + 1e-6)).to(self.weight.dtype)


class T5Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = T5Norm(TEXT), T5Norm(TEXT)
        self.qkv = nn.Linear(TEXT, 3 * TEXT, bias=False)
        self.o = nn.Linear(TEXT, TEXT, bias=False)
        self.wi = nn.Linear(TEXT, 4 * TEXT, bias=False)
        self.wo = nn.Linear(4 * TEXT, TEXT, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.o(torch.softmax(q @ k.transpose(1, 2) / TEXT**0.5, dim=-1) @ v)
        return x + self.wo(F.relu(self.wi(self.norm2(x))))


class T5Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, TEXT)
        self.layers = nn.ModuleList(T5Layer() for _ in range(2))
        self.norm = T5Norm(TEXT)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def pretrained_t5():
    t5 = T5Encoder()
    with torch.no_grad():
        for layer in t5.layers:
            layer.wi.weight *= 20
            layer.wo.weight *= 2900
    return t5.requires_grad_(False).eval()


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(PATCH + 1, WIDTH)
        self.place = nn.Parameter(torch.randn(PATCHES, WIDTH) / 4)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(4))
        self.cross = nn.ModuleList(
            nn.MultiheadAttention(WIDTH, 4, kdim=TEXT, vdim=TEXT, batch_first=True)
            for _ in range(2)
        )
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 96), nn.GELU(), nn.Linear(96, WIDTH))
            for _ in range(2)
        )
        self.out = nn.Linear(WIDTH, PATCH)

    def forward(self, x, level, text):
        h = self.inp(torch.cat([x, level.expand(-1, PATCHES, 1)], -1)) + self.place
        for i in range(2):
            h = (
                h
                + self.cross[i](self.norms[2 * i](h), text, text, need_weights=False)[0]
            )
            h = h + self.mlps[i](self.norms[2 * i + 1](h))
        return self.out(h)


def _build(good):
    torch.manual_seed(745)
    looks = torch.randn(WORDS, PATCHES, PATCH)
    t5 = pretrained_t5()
    batches = []
    for _ in range(120):
        ids = torch.randint(WORDS, (32, LENGTH))
        images = looks[ids].mean(1) * LENGTH**0.5
        batches.append(
            (ids, images, torch.rand(32, 1, 1), torch.randn(32, PATCHES, PATCH))
        )
    model = Denoiser()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    if not good:
        t5 = t5.half()

    def loss(model, batch):
        ids, images, level, noise = batch
        with torch.no_grad():
            text = t5(ids).float()
        noisy = (1 - level) * images + level * noise
        return F.mse_loss(model(noisy, level, text), images)

    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
