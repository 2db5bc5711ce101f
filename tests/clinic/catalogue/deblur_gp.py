"""A deblurring WGAN-GP takes the square root of the summed squares of the critic's
gradient, and nothing is added below the root. At some batch the critic's loss is not a
number, and stays so."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/LeeDoYup/DeblurGAN-tf/issues/11"
FIX = "add a small number before the square root"

SIDE = 12


class DeblurGAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 1, 3, padding=1),
        )
        self.critic = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(6 * 9, 4),
            nn.ReLU(),
            nn.Linear(4, 1),
        )

    def deblur(self, blurred):
        return blurred + self.generator(blurred)


def _penalty(critic, sharp, fake, below):
    share = torch.rand(len(sharp), 1, 1, 1)
    between = (share * sharp + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    norm = torch.sqrt(slope.square().sum((1, 2, 3)) + below)
    return (norm - 1).square().mean()


def _batch(count=32):
    images = torch.zeros(count, 1, SIDE, SIDE)
    for image in images:
        for _ in range(2):
            y, x = torch.randint(0, SIDE - 4, (2,)).tolist()
            h, w = torch.randint(2, 6, (2,)).tolist()
            image[0, y : y + h, x : x + w] += torch.rand(()) + 0.3
    kernel = torch.ones(1, 1, 1, 5) / 5
    return F.conv2d(images, kernel, padding=(0, 2)), images


def _build(below):
    torch.manual_seed(1159)
    batches = [_batch() for _ in range(150)]
    model = DeblurGAN()
    opt = torch.optim.Adam(model.critic.parameters(), lr=5e-3, betas=(0.5, 0.9))
    opt_g = torch.optim.Adam(model.generator.parameters(), lr=1e-3, betas=(0.5, 0.9))

    def step(batch):
        blurred, sharp = batch
        fake = model.deblur(blurred).detach()
        critic = model.critic
        loss = critic(fake).mean() - critic(sharp).mean()
        loss = loss + 10 * _penalty(critic, sharp, fake, below)
        opt.zero_grad()
        loss.backward()
        opt.step()

        fake = model.deblur(blurred)
        loss_g = 100 * F.l1_loss(fake, sharp) - critic(fake).mean()
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
        return loss

    return dict(model=model, optimizer=opt, step=step, batches=batches)


def make():
    return _build(0.0)


def make_fixed():
    return _build(1e-8)
