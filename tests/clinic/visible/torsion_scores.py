"""The score of a wrapped normal is next to zero for a wide noise, and the loss
divides by its mean square. An output that is not scaled in the same way makes the
loss as large as 1e17."""

import math

import torch
from torch import nn

CAUSE = "loss_terms_unbalanced"
ALSO_OK = {"unscaled_target", "loss_numerics"}
SOURCE = "https://github.com/gcorso/torsional-diffusion/issues/2"
FIX = "multiply the predicted score by the root of its expected square"

KINDS, LOW, HIGH = 4, 0.1 * math.pi, 2 * math.pi


def _score(x, sigma):
    turns = torch.arange(-12, 13, dtype=torch.float64) * 2 * math.pi
    away = x.double()[..., None] + turns
    power = -0.5 * (away / sigma.double()[..., None]) ** 2
    return -(power.softmax(-1) * away).sum(-1) / sigma.double() ** 2


def _score_norm(sigma):
    x = torch.linspace(-math.pi, math.pi, 401, dtype=torch.float64)[None]
    wide = sigma.double().expand(-1, 401)
    turns = torch.arange(-12, 13, dtype=torch.float64) * 2 * math.pi
    p = torch.exp(-0.5 * ((x[..., None] + turns) / wide[..., None]) ** 2).sum(-1)
    return (p * _score(x.expand_as(wide), wide) ** 2).sum(1, True) / p.sum(1, True)


class ScoreNet(nn.Module):
    def __init__(self, scaled):
        super().__init__()
        self.scaled = scaled
        self.kind = nn.Embedding(KINDS, 16)
        self.net = nn.Sequential(
            nn.Linear(16 + 5, 96),
            nn.SiLU(),
            nn.Linear(96, 96),
            nn.SiLU(),
            nn.Linear(96, 2),
        )

    def forward(self, kind, angle, sigma, norm):
        where = torch.cat([angle.sin(), angle.cos(), sigma.log()], 1)
        out = self.net(torch.cat([self.kind(kind), where], 1))
        return out * norm.sqrt() if self.scaled else out


def _loss(model, batch):
    kind, angle, sigma, score, norm = batch
    return ((score - model(kind, angle, sigma, norm)) ** 2 / norm).mean()


def _build(scaled):
    torch.manual_seed(33)
    levels = LOW * (HIGH / LOW) ** torch.linspace(0, 1, 80)[:, None]
    norms = _score_norm(levels).float()
    rest = (torch.rand(KINDS, 2) * 2 - 1) * math.pi
    batches = []
    for _ in range(150):
        kind = torch.randint(0, KINDS, (256,))
        level = torch.randint(0, 80, (256,))
        sigma = levels[level]
        noise = sigma * torch.randn(256, 2)
        score = _score(noise, sigma.expand(-1, 2)).float()
        angle = rest[kind] + noise
        batches.append((kind, angle, sigma, score, norms[level]))
    model = ScoreNet(scaled)
    opt = torch.optim.Adam(model.parameters(), lr=4e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
