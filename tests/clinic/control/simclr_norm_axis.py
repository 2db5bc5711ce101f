"""The SimCLR loss normalizes the embeddings of the whole batch by one common norm, so
all similarities are next to zero. The loss stays near that of a constant encoder."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "wrong_axis"
ALSO_OK = set()
SOURCE = "https://github.com/tensorflow/similarity/issues/237"
FIX = "normalize along the last axis, each embedding by its own norm"

BATCH, SIZE, TEMPERATURE = 32, 10, 0.1


class Encoder(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.projector = nn.Sequential(
            nn.Linear(4 * width, 64), nn.ReLU(), nn.Linear(64, 24)
        )

    def forward(self, x):
        return self.projector(self.features(x))


def l2_normalize(x, axis=None):
    norm = x.norm() if axis is None else x.norm(dim=axis, keepdim=True)
    return x / norm.clamp(min=1e-6)


def simclr_loss(za, zb, axis):
    za, zb = l2_normalize(za, axis), l2_normalize(zb, axis)
    n = len(za)
    itself = torch.eye(n) * 1e9
    logits_aa = za @ za.T / TEMPERATURE - itself
    logits_bb = zb @ zb.T / TEMPERATURE - itself
    logits_ab = za @ zb.T / TEMPERATURE
    labels = torch.arange(n)
    loss_a = F.cross_entropy(torch.cat([logits_ab, logits_aa], 1), labels)
    loss_b = F.cross_entropy(torch.cat([logits_ab.T, logits_bb], 1), labels)
    return (loss_a + loss_b) / 2


def _view(x):
    shade = 1 + 0.2 * torch.randn(len(x), 1, 1, 1)
    x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x, x.flip(-1))
    return x * shade + 0.3 * torch.randn_like(x)


def _build(good):
    torch.manual_seed(4108)
    images = torch.randn(240, 3, SIZE, SIZE)
    batches = []
    for _ in range(120):
        x = images[torch.randperm(240)[:BATCH]]
        batches.append((_view(x), _view(x)))
    model = Encoder()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def loss(model, batch):
        za, zb = model(torch.cat(batch)).chunk(2)
        return simclr_loss(za, zb, axis=-1 if good else None)

    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
