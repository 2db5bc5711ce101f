"""Semantic ids of items come from a residual quantizer. Its codebook loss is taken on
the straight-through output, where the code is detached: the codes never move, and the
quantization loss grows."""

import torch
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = set()
SOURCE = "https://github.com/EdoardoBotta/RQ-VAE-Recommender/issues/24"
FIX = "take the codebook loss on the codes; only the decoder gets the straight-through"

FEATURES = 24
LATENT = 8
CODES = 32
LEVELS = 3


class Quantize(nn.Module):
    def __init__(self, own):
        super().__init__()
        self.own = own
        self.embedding = nn.Embedding(CODES, LATENT)

    def forward(self, x):
        ids = torch.cdist(x.detach(), self.embedding.weight.detach()).argmin(1)
        code = self.embedding(ids)
        through = x + (code - x).detach()
        target = code if self.own else through
        first = (x.detach() - target).square().sum(1)
        second = (x - target.detach()).square().sum(1)
        return through, first + 0.25 * second


class RQVAE(nn.Module):
    def __init__(self, own, hidden=48):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(FEATURES, hidden), nn.SiLU(), nn.Linear(hidden, LATENT)
        )
        self.layers = nn.ModuleList(Quantize(own) for _ in range(LEVELS))
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, hidden), nn.SiLU(), nn.Linear(hidden, FEATURES)
        )

    @torch.no_grad()
    def start(self, x):
        rest = self.encoder(x)
        for layer in self.layers:
            layer.embedding.weight.copy_(rest[torch.randperm(len(rest))[:CODES]])
            rest = rest - layer(rest)[0]

    def forward(self, x):
        rest = self.encoder(x)
        total, loss = 0.0, 0.0
        for layer in self.layers:
            code, part = layer(rest)
            rest = rest - code.detach()
            total, loss = total + code, loss + part
        return self.decoder(total), loss


def _loss(model, x):
    out, codes = model(x)
    return ((out - x).square().sum(1) + codes).mean()


def _build(own):
    torch.manual_seed(2401)
    centers = 0.3 * torch.randn(20, FEATURES)
    batches = []
    for _ in range(140):
        kind = torch.randint(0, len(centers), (128,))
        batches.append(centers[kind] + 0.06 * torch.randn(128, FEATURES))
    model = RQVAE(own)
    model.start(batches[0])
    opt = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.01)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
