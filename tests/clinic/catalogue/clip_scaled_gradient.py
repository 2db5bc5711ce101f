"""A trainer with a gradient scaler clips to norm one while the gradient still carries
the scale of some hundred thousand. After unscaling next to nothing is left, and
training is as good as halted."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "clip_misplaced"
ALSO_OK = {"clip_too_tight"}
SOURCE = "https://github.com/victorchall/EveryDream2trainer/pull/175"
FIX = "unscale the gradient before it is clipped"

SIZE, CLASSES = 8, 6


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Conv2d(2, 32, 3, padding=1)
        self.cond = nn.Embedding(CLASSES, 32)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(4, 32), nn.SiLU(), nn.Conv2d(32, 32, 3, padding=1)
            )
            for _ in range(3)
        )
        self.out = nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, x, level, label):
        h = (
            self.inp(torch.cat([x, level.expand_as(x)], 1))
            + self.cond(label)[:, :, None, None]
        )
        for block in self.blocks:
            h = h + block(h)
        return self.out(h)


def _build(good):
    torch.manual_seed(624)
    looks = 1.5 * torch.randn(CLASSES, 1, SIZE, SIZE)
    batches = []
    for _ in range(120):
        label = torch.randint(CLASSES, (16,))
        batches.append(
            (
                looks[label],
                label,
                torch.rand(16, 1, 1, 1),
                torch.randn(16, 1, SIZE, SIZE),
            )
        )
    model = Denoiser()
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=2e-6, weight_decay=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2**17.5, growth_interval=25)

    def step(batch):
        image, label, level, noise = batch
        noisy = (1 - level) * image + level * noise
        loss = F.mse_loss(model(noisy, level, label), noise)
        scaler.scale(loss).backward()
        if good:
            scaler.unscale_(opt)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
        opt.zero_grad(set_to_none=True)
        return loss.detach()

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
