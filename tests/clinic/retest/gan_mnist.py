"""The discriminator gives a plain number without any squashing, and the cross entropy
takes the logarithm of it as if it were a probability. Where the number is below zero
or above one the logarithm is nan, and so is the loss, at the first update and at most
of the later ones."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/mlpack/mlpack/pull/1813"
FIX = "a cross entropy that takes unscaled outputs (sigmoid inside)"

NOISE, PRETRAIN = 12, 60


def _cross_entropy(output, target):
    eps = 1e-8
    return -(
        target * (output + eps).log() + (1 - target) * (1 - output + eps).log()
    ).mean()


class Gan(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(NOISE, 48),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Linear(48, 64),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * 16, 1),
        )


def _build(criterion):
    torch.manual_seed(4108)
    looks = torch.randn(10, 64).sign()
    batches = []
    for _ in range(100):
        strokes = looks[torch.randint(10, (50,))]
        batches.append((strokes * 0.8 + torch.randn(50, 64) * 0.2).clamp(-1, 1))
    model = Gan()
    opt = torch.optim.Adam(model.discriminator.parameters(), lr=2e-3)
    opt_generator = torch.optim.Adam(model.generator.parameters(), lr=1e-4)
    done = [0]

    def step(batch):
        fake = model.generator(torch.randn(len(batch), NOISE))
        output = model.discriminator(torch.cat([batch, fake.detach()]))[:, 0]
        target = torch.cat([torch.ones(len(batch)), torch.zeros(len(batch))])
        loss = criterion(output, target)
        opt.zero_grad()
        loss.backward()
        opt.step()
        done[0] += 1
        if done[0] > PRETRAIN:
            judged = model.discriminator(fake)[:, 0]
            opt_generator.zero_grad()
            criterion(judged, torch.ones(len(batch))).backward()
            opt_generator.step()
        return loss

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(_cross_entropy)


def make_fixed():
    return _build(F.binary_cross_entropy_with_logits)
