"""A spoken-language classifier with additive angular margin: the sine is the root of
one minus the squared cosine. The loss falls until the cosine of one utterance rounds
to one or more; from then on it is NaN."""

import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/speechbrain/speechbrain/issues/1276"
FIX = "clamp the cosine to between -1 + 1e-7 and 1 - 1e-7"

CLASSES, BANDS, FRAMES = 2, 20, 10


class Encoder(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.frames = nn.Sequential(
            nn.Conv1d(BANDS, 48, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(48, 48, 3, padding=1),
            nn.ReLU(),
        )
        self.embed = nn.Linear(96, size)
        self.weight = nn.Parameter(torch.empty(CLASSES, size))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x):
        h = self.frames(x)
        pooled = torch.cat([h.mean(2), h.std(2)], 1)
        return F.linear(F.normalize(self.embed(pooled)), F.normalize(self.weight))


class AngularMargin:
    def __init__(self, bound, margin=0.2, scale=10.0):
        self.bound, self.scale = bound, scale
        self.cos_m, self.sin_m = math.cos(margin), math.sin(margin)
        self.th, self.mm = (
            math.cos(math.pi - margin),
            math.sin(math.pi - margin) * margin,
        )

    def __call__(self, cosine, target):
        if self.bound:
            cosine = torch.clamp(cosine, -1 + 1e-7, 1 - 1e-7)
        sine = torch.sqrt(1.0 - torch.pow(cosine, 2))
        phi = cosine * self.cos_m - sine * self.sin_m
        phi = torch.where(cosine > self.th, phi, cosine - self.mm)
        hot = F.one_hot(target, CLASSES).float()
        out = self.scale * (hot * phi + (1.0 - hot) * cosine)
        return F.cross_entropy(out, target)


def _build(bound):
    torch.manual_seed(1276)
    voice = torch.randn(CLASSES, BANDS) * 0.3
    batches = []
    for _ in range(110):
        y = torch.randint(0, CLASSES, (64,))
        x = voice[y].unsqueeze(2) + torch.randn(64, BANDS, FRAMES)
        batches.append((x, y))
    model = Encoder(2)
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    return dict(
        model=model, loss_fn=AngularMargin(bound), optimizer=opt, batches=batches
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
