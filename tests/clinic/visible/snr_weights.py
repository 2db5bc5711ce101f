"""The loss of each diffusion step is weighted by min(snr, 5) / snr, and a rescaled
noise schedule ends in a step whose snr is zero. The loss is NaN as soon as a batch
draws that step."""

import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/TiankaiHang/Min-SNR-Diffusion-Training/pull/4"
FIX = "set the weight to 1 where the signal-to-noise ratio is zero"

STEPS, SIDE = 500, 8


def _zero_terminal_alphas():
    betas = torch.linspace(0.01**0.5, 0.04**0.5, STEPS) ** 2
    root = torch.cumprod(1 - betas, 0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    root = (root - last) * first / (first - last)
    return root**2


class Diffusion:
    def __init__(self, patch):
        self.alphas = _zero_terminal_alphas()
        snr = self.alphas / (1 - self.alphas)
        self.weights = snr.clamp(max=5.0) / snr
        if patch:
            self.weights[snr == 0] = 1.0

    def losses(self, model, batch):
        x, t, noise = batch
        signal = self.alphas[t].sqrt()[:, None, None, None]
        spread = (1 - self.alphas[t]).sqrt()[:, None, None, None]
        out = model(signal * x + spread * noise, t)
        each = (out - noise).square().mean((1, 2, 3))
        return (each * self.weights[t]).mean()


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 32))
        self.enter = nn.Conv2d(1, 32, 3, 1, 1)
        self.one = nn.Conv2d(32, 32, 3, 1, 1)
        self.two = nn.Conv2d(32, 32, 3, 1, 1)
        self.leave = nn.Conv2d(32, 1, 3, 1, 1)

    def forward(self, x, t):
        wave = t[:, None] / STEPS * 3.14 * 2 ** torch.arange(4.0) / 4
        time = self.time(torch.cat([wave.sin(), wave.cos()], 1))[:, :, None, None]
        h = self.enter(x)
        h = h + self.one(torch.nn.functional.silu(h + time))
        h = h + self.two(torch.nn.functional.silu(h))
        return self.leave(torch.nn.functional.silu(h))


def _blobs(n):
    grid = torch.arange(SIDE).float()
    cy, cx = torch.rand(2, n, 1, 1) * (SIDE - 3) + 1
    far = (grid[None, :, None] - cy) ** 2 + (grid[None, None] - cx) ** 2
    return (torch.exp(-far / 4) * 2 - 1)[:, None]


def _build(patch):
    torch.manual_seed(4)
    batches = []
    for _ in range(120):
        t = torch.randint(0, STEPS, (32,))
        batches.append((_blobs(32), t, torch.randn(32, 1, SIDE, SIDE)))
    model = Denoiser()
    diffusion = Diffusion(patch)
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def loss(model, batch):
        return diffusion.losses(model, batch)

    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
