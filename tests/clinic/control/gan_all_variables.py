"""A small GAN whose two optimizers were both built without a choice of variables.
The discriminator's loss climbs from the start and the generator's goes to zero."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = set()
SOURCE = "https://github.com/soumith/ganhacks/issues/29"
FIX = "give each optimizer only the variables of its own network"

NOISE, SIZE = 2, 64


class Gan(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(NOISE, 32), nn.LeakyReLU(0.2), nn.Linear(32, SIZE)
        )
        self.discriminator = nn.Sequential(
            nn.Linear(SIZE, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1)
        )


def _build(good):
    torch.manual_seed(4104)
    basis = torch.randn(8, SIZE)
    batches = []
    for _ in range(120):
        real = torch.tanh(torch.randn(64, 8) @ basis) + 0.05 * torch.randn(64, SIZE)
        batches.append((real, torch.randn(64, NOISE), torch.randn(64, NOISE)))
    model = Gan()
    if good:
        d_vars = model.discriminator.parameters()
        g_vars = model.generator.parameters()
    else:
        d_vars, g_vars = model.parameters(), model.parameters()
    d_opt = torch.optim.Adam(d_vars, lr=2e-3, betas=(0.5, 0.999))
    g_opt = torch.optim.Adam(g_vars, lr=2e-3, betas=(0.5, 0.999))

    def step(batch):
        real, noise, other = batch
        fake = model.generator(noise)
        on_real = model.discriminator(real)
        on_fake = model.discriminator(fake)
        d_loss = F.binary_cross_entropy_with_logits(on_real, torch.ones_like(on_real))
        d_loss = d_loss + F.binary_cross_entropy_with_logits(
            on_fake, torch.zeros_like(on_fake)
        )
        model.zero_grad()
        d_loss.backward()
        d_opt.step()
        for _ in range(2):
            on_fake = model.discriminator(model.generator(other))
            g_loss = F.binary_cross_entropy_with_logits(
                on_fake, torch.ones_like(on_fake)
            )
            model.zero_grad()
            g_loss.backward()
            g_opt.step()
        return d_loss

    return dict(model=model, step=step, optimizer=d_opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
