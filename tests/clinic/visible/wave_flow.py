"""A flow for audio computes in half precision, with a fixed loss scale. At a loud
passage the scaled gradient of the normalization layer no longer fits into float16,
and the loss is NaN from then on."""

import torch
from torch import nn

CAUSE = "fp16_overflow"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/ryhorv/tf-flowavenet/issues/3"
FIX = "use float32 as dtype and a loss scale of 1"

CHANNELS, TIME, FLOWS = 8, 32, 4


class ActNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(CHANNELS))
        self.logs = nn.Parameter(torch.zeros(CHANNELS))
        self.ready = False

    def forward(self, x):
        if not self.ready:
            with torch.no_grad():
                flat = x.float().reshape(-1, CHANNELS)
                self.bias.copy_(-flat.mean(0))
                self.logs.copy_(-torch.log(flat.std(0) + 1e-6))
            self.ready = True
        logs = self.logs.to(x.dtype)
        return (x + self.bias.to(x.dtype)) * torch.exp(logs), logs.sum()


class Coupling(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(CHANNELS // 2, 48)
        self.leave = nn.Linear(48, CHANNELS)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x):
        a, b = x.chunk(2, -1)
        kind = x.dtype
        h = torch.relu(a @ self.enter.weight.to(kind).T + self.enter.bias.to(kind))
        h = h @ self.leave.weight.to(kind).T + self.leave.bias.to(kind)
        logs, shift = h.chunk(2, -1)
        logs = torch.tanh(logs)
        b = (b + shift) * torch.exp(logs)
        return torch.cat([b, a], -1), logs.sum(-1).mean()


class WaveFlow(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype
        self.norms = nn.ModuleList(ActNorm() for _ in range(FLOWS))
        self.couplings = nn.ModuleList(Coupling() for _ in range(FLOWS))

    def forward(self, x):
        x = x.to(self.dtype)
        logdet = 0
        for norm, coupling in zip(self.norms, self.couplings, strict=True):
            x, first = norm(x)
            x, second = coupling(x)
            logdet = logdet + first + second
        log_p = -0.5 * x.float().square().mean() - 0.9189
        return log_p, logdet.float() / CHANNELS


def _audio(n):
    phase = torch.rand(n, 1) * 6.28
    pitch = torch.rand(n, 1) * 0.25 + 0.05
    t = torch.arange(TIME * CHANNELS).float()
    wave = torch.sin(pitch * t + phase) + 0.4 * torch.sin(2 * pitch * t + 2 * phase)
    loud = torch.exp(0.35 * torch.randn(n, 1))
    loud = torch.where(torch.rand(n, 1) < 0.01, 8.0, loud)
    wave = loud * wave + 0.05 * torch.randn_like(wave)
    return wave.view(n, TIME, CHANNELS) * 0.3


def _build(dtype, scale):
    torch.manual_seed(8007)
    batches = [_audio(16) for _ in range(120)]
    model = WaveFlow(dtype)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)

    def step(batch):
        opt.zero_grad()
        log_p, logdet = model(batch)
        loss = -(log_p + logdet)
        (loss * scale).backward()
        for p in model.parameters():
            p.grad /= scale
        opt.step()
        return loss.detach()

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(torch.float16, 65536.0)


def make_fixed():
    return _build(torch.float32, 1.0)
