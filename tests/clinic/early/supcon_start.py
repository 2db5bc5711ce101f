"""Supervised contrastive training of a small encoder starts at its full learning
rate. Within a few steps all features point the same way and the loss sits at the log
of the number of other views, for good."""

import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "warmup_missing"
ALSO_OK = {"lr_too_high", "representation_collapse"}
SOURCE = "https://github.com/HobbitLong/SupContrast/issues/42"
FIX = "let the learning rate rise from a small value over the first sixty steps"

CLASSES = 6
SIZE = 12
LR = 1.0


class Encoder(nn.Module):
    def __init__(self, width=24, out=32):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, out),
        )

    def forward(self, x):
        return F.normalize(self.head(self.body(x)), dim=1)


def _loss(model, batch, temperature=0.1):
    views, labels = batch
    z = model(views.flatten(0, 1))
    labels = labels.repeat(2)
    logits = z @ z.T / temperature
    own = torch.eye(len(z), dtype=torch.bool)
    logits = logits.masked_fill(own, -1e9)
    same = (labels[:, None] == labels[None]).float().masked_fill(own, 0)
    log_prob = logits - torch.logsumexp(logits, 1, keepdim=True)
    return -((log_prob * same).sum(1) / same.sum(1)).mean()


def _views(prototypes, labels):
    pictures = prototypes[labels]
    out = []
    for _ in range(2):
        shift = torch.randint(-2, 3, (2,)).tolist()
        view = torch.roll(pictures, shift, dims=(1, 2))
        view = view * (0.7 + 0.6 * torch.rand(len(labels), 1, 1))
        out.append(view + 0.5 * torch.randn_like(view))
    return torch.stack(out)[:, :, None]


def _build(warm):
    torch.manual_seed(5242)
    coarse = torch.randn(CLASSES, 1, 6, 6)
    prototypes = F.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")[:, 0]
    batches = []
    for _ in range(140):
        labels = torch.randint(0, CLASSES, (48,))
        batches.append((_views(prototypes, labels), labels))
    model = Encoder()
    opt = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    seen = 0

    def scheduler():
        nonlocal seen
        seen += 1
        part = min(1.0, (seen + 1) / warm)
        opt.param_groups[0]["lr"] = (
            0.01 + (LR - 0.01) * (1 - math.cos(math.pi * part)) / 2
        )

    if warm > 1:
        opt.param_groups[0]["lr"] = 0.01
    return dict(
        model=model, loss=_loss, optimizer=opt, batches=batches, scheduler=scheduler
    )


def make():
    return _build(1)


def make_fixed():
    return _build(60)
