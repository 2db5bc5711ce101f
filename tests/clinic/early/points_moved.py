"""An equivariant graph network moves every point by a sum over all others of their
offset times a learned weight that nothing bounds. On clouds of some dozens of points
its layers blow the coordinates up."""

import torch
from torch import nn

CAUSE = "deep_no_skip_or_norm"
ALSO_OK = {"init_too_large", "lr_too_high"}
SOURCE = "https://github.com/lucidrains/egnn-pytorch/pull/33"
FIX = "pass the weights through tanh and give the offsets length one"

POINTS = 32
KINDS = 4
WIDTH = 16
DEPTH = 4


class EGNN(nn.Module):
    def __init__(self, tame):
        super().__init__()
        self.tame = tame
        self.edge = nn.Sequential(
            nn.Linear(2 * WIDTH + 1, 2 * WIDTH),
            nn.SiLU(),
            nn.Linear(2 * WIDTH, WIDTH),
            nn.SiLU(),
        )
        self.coors = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, 1)
        )
        self.node = nn.Sequential(
            nn.Linear(2 * WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, feats, coors):
        offset = coors[:, :, None] - coors[:, None]
        square = offset.square().sum(-1, keepdim=True)
        size = feats.shape[1]
        here = feats[:, :, None].expand(-1, -1, size, -1)
        there = feats[:, None].expand(-1, size, -1, -1)
        message = self.edge(torch.cat([here, there, square], -1))
        weight = self.coors(message)
        if self.tame:
            weight = weight.tanh()
            offset = offset / (square + 1e-8).sqrt()
        coors = coors + (weight * offset).sum(2)
        feats = feats + self.node(torch.cat([feats, message.sum(2)], -1))
        return feats, coors


class Denoise(nn.Module):
    def __init__(self, tame):
        super().__init__()
        self.embed = nn.Embedding(KINDS, WIDTH)
        self.layers = nn.ModuleList(EGNN(tame) for _ in range(DEPTH))

    def forward(self, inputs):
        kinds, coors = inputs
        feats = self.embed(kinds)
        for layer in self.layers:
            feats, coors = layer(feats, coors)
        return coors


def _clouds(count):
    kinds = torch.arange(POINTS) % KINDS
    turns = torch.arange(POINTS) * 0.6
    helix = torch.stack([turns.cos(), turns.sin(), 0.2 * turns], 1)
    frame = torch.linalg.qr(torch.randn(count, 3, 3))[0]
    clean = (helix - helix.mean(0)) @ frame
    noisy = clean + 0.5 * torch.randn(count, POINTS, 3)
    return (kinds.expand(count, -1), noisy), clean


def _build(tame):
    torch.manual_seed(3307)
    batches = [_clouds(4) for _ in range(100)]
    model = Denoise(tame)
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss = nn.functional.mse_loss
    return dict(model=model, loss_fn=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
