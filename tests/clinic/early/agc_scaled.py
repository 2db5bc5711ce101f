"""Adaptive gradient clipping in mixed precision looks at the gradient while it still
carries the loss scale. What is left after the division by the scale is far too small,
and the loss of the segmentation network hardly moves."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "clip_misplaced"
ALSO_OK = {"clip_too_tight", "fp16_underflow", "optimizer_misconfigured"}
SOURCE = "https://github.com/andreped/GradientAccumulator/issues/19"
FIX = "unscale the gradients before the adaptive clipping"


def double(a, b):
    return nn.Sequential(
        nn.Conv2d(a, b, 3, padding=1),
        nn.GroupNorm(4, b),
        nn.ReLU(),
        nn.Conv2d(b, b, 3, padding=1),
        nn.GroupNorm(4, b),
        nn.ReLU(),
    )


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2 = double(1, 8), double(8, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.last = double(16, 8)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.up(self.down2(F.max_pool2d(a, 2)))
        return self.out(self.last(torch.cat([a, b], 1)))


def unit_norm(t):
    if t.dim() < 2:
        return t.norm()
    return t.flatten(1).norm(dim=1).view(-1, *[1] * (t.dim() - 1))


def adaptive_clip(params, factor=0.01, eps=1e-3):
    for p in params:
        most = unit_norm(p.detach()).clamp(min=eps) * factor
        norm = unit_norm(p.grad)
        p.grad.mul_(torch.where(norm > most, most / norm.clamp(min=1e-6), 1.0))


class MixedTrainer:
    def __init__(self, model, optimizer, scale, unscale_first):
        self.model, self.optimizer = model, optimizer
        self.scale, self.unscale_first = scale, unscale_first

    def unscale(self):
        for p in self.model.parameters():
            p.grad.div_(self.scale)

    def __call__(self, batch):
        x, y = batch
        self.optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.model(x)
        loss = F.binary_cross_entropy_with_logits(logits.float(), y)
        (loss * self.scale).backward()
        params = list(self.model.parameters())
        if self.unscale_first:
            self.unscale()
            adaptive_clip(params)
        else:
            adaptive_clip(params)
            self.unscale()
        self.optimizer.step()
        return loss.detach()


def _build(unscale_first):
    torch.manual_seed(1906)
    grid = torch.arange(16.0)
    batches = []
    for _ in range(110):
        cx, cy = torch.rand(8, 1, 1) * 10 + 3, torch.rand(8, 1, 1) * 10 + 3
        far = (grid.view(1, 16, 1) - cy) ** 2 + (grid.view(1, 1, 16) - cx) ** 2
        y = (far < (2.5 + 2 * torch.rand(8, 1, 1)) ** 2).float().unsqueeze(1)
        x = y * 1.5 + 0.7 * torch.randn(8, 1, 16, 16)
        batches.append((x, y))
    model = UNet()
    opt = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    step = MixedTrainer(model, opt, 2.0**15, unscale_first)
    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
