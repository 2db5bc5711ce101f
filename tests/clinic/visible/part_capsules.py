"""The likelihood of an image under a mixture of capsules is the logarithm of a sum of
plain exponentials. After some dozens of steps the densities are so large that the
exponential is infinite, and the loss becomes NaN."""

import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/mlberkeley/scae-pytorch/pull/4"
FIX = "use torch.logsumexp for the sum over the capsules"

PIXELS, CAPSULES, POSE = 64, 4, 3


class CapsuleAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(PIXELS, 96), nn.ReLU(), nn.Linear(96, CAPSULES * (POSE + 1))
        )
        self.parts = nn.Parameter(torch.randn(CAPSULES, POSE, PIXELS) * 0.1)
        self.offset = nn.Parameter(torch.zeros(CAPSULES, PIXELS))
        self.scale = nn.Parameter(torch.full((CAPSULES,), 0.2))

    def forward(self, image):
        code = self.encoder(image).view(-1, CAPSULES, POSE + 1)
        pose, presence = code[..., :POSE], code[..., POSE]
        vote = torch.einsum("bkp,kpd->bkd", pose, self.parts) + self.offset
        scale = F.softplus(self.scale)[:, None] + 1e-3
        log_prob = -0.5 * ((image[:, None] - vote) / scale) ** 2
        log_prob = log_prob - scale.log() - 0.5 * math.log(2 * math.pi)
        return log_prob.sum(-1) + presence.log_softmax(-1)


def _plain(model, image):
    return -torch.log(torch.exp(model(image)).sum(-1) + 1e-30).mean()


def _safe(model, image):
    return -torch.logsumexp(model(image), -1).mean()


def _build(loss):
    torch.manual_seed(404)
    parts = torch.randn(CAPSULES, POSE, PIXELS) * 0.25
    batches = []
    for _ in range(150):
        which = torch.randint(0, CAPSULES, (128,))
        image = torch.einsum("bp,bpd->bd", torch.rand(128, POSE) + 0.2, parts[which])
        batches.append(image + 0.03 * torch.randn(128, PIXELS))
    model = CapsuleAutoencoder()
    opt = torch.optim.Adam(model.parameters(), lr=2e-2)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(_plain)


def make_fixed():
    return _build(_safe)
