"""A graph GAN that looks for anomalies is fed by a neighbor sampler that samples no
neighbors. The mean over the edges of each part is not a number from the first step
on."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"labels_masked"}
SOURCE = "https://github.com/pygod-team/pygod/issues/101"
FIX = "sample neighbors, so that every part of the graph has edges"

NODES = 600
FEATURES = 16


class Gaan(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, FEATURES)
        )
        self.encoder = nn.Sequential(
            nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 16)
        )

    def adjacency(self, x):
        z = self.encoder(x)
        return torch.sigmoid(z @ z.T)


def _graph():
    group = torch.randint(4, (NODES,))
    centers = torch.randn(4, FEATURES)
    x = centers[group] + 0.5 * torch.randn(NODES, FEATURES)
    same = group[:, None] == group[None]
    linked = torch.rand(NODES, NODES) < torch.where(same, 0.06, 0.002)
    linked = linked.triu(1)
    return x, linked | linked.T


def _sample(x, linked, seeds, num_neigh):
    nodes = seeds.tolist()
    place = {node: i for i, node in enumerate(nodes)}
    source, target = [], []
    for i, node in enumerate(seeds.tolist()):
        around = linked[node].nonzero().squeeze(1)
        around = around[torch.randperm(len(around))][:num_neigh]
        for other in around.tolist():
            if other not in place:
                place[other] = len(nodes)
                nodes.append(other)
            source.append(place[other])
            target.append(i)
    edges = torch.tensor([source, target], dtype=torch.long)
    return x[torch.tensor(nodes)], edges


def _bce(a, value):
    return F.binary_cross_entropy(a, torch.full_like(a, value))


def _build(num_neigh):
    torch.manual_seed(1010)
    x, linked = _graph()
    batches = []
    for _ in range(100):
        seeds = torch.randperm(NODES)[:32]
        batches.append(_sample(x, linked, seeds, num_neigh))
    model = Gaan()
    opt_g = torch.optim.Adam(model.generator.parameters(), lr=5e-4)
    opt = torch.optim.Adam(model.encoder.parameters(), lr=1e-3)

    def step(batch):
        x, (source, target) = batch
        noise = torch.randn(len(x), 8)
        fake = model.adjacency(model.generator(noise))
        loss_g = _bce(fake[source, target], 1.0)
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()

        real = model.adjacency(x)[source, target]
        fake = model.adjacency(model.generator(noise).detach())[source, target]
        loss = (_bce(real, 1.0) + _bce(fake, 0.0)) / 2
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    return dict(model=model, optimizer=opt, step=step, batches=batches)


def make():
    return _build(0)


def make_fixed():
    return _build(4)
