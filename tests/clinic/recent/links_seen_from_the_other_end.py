"""Messages run along the links that are asked for, as their other direction was kept.
The model learns to read the answer off, and knows nothing of links it has not seen."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "target_leak"
ALSO_OK = set()
SOURCE = "https://github.com/dmlc/dgl/issues/5536"
FIX = "take both directions of a link that is asked for out of the graph of messages"

NODES, ASKED = 64, 96


def graph():
    """Links within four groups; half of those that are asked for are real."""
    group = torch.randint(0, 4, (NODES,))
    chance = torch.where(group[:, None] == group, 0.5, 0.02)
    upper = (torch.rand(NODES, NODES) < chance).float().triu(1)
    links = upper + upper.T
    real = upper.nonzero()
    real = real[torch.randperm(len(real))[: ASKED // 2]]
    none = (1 - links).triu(1).nonzero()
    none = none[torch.randperm(len(none))[: len(real)]]
    pairs = torch.cat([real, none])
    answers = torch.cat([torch.ones(len(real)), torch.zeros(len(none))])
    return torch.randn(NODES, 32) / 32**0.5, links, pairs, answers


def without(links, pairs):
    links = links.clone()
    links[pairs[:, 0], pairs[:, 1]] = 0
    links[pairs[:, 1], pairs[:, 0]] = 0
    return links


class Links(nn.Module):
    def __init__(self):
        super().__init__()
        self.own = nn.Linear(32, 32, bias=False)
        self.near = nn.Linear(32, 32, bias=False)
        self.far = nn.Linear(32, 32, bias=False)
        self.score = nn.Linear(6, 1)

    def forward(self, x, links, pairs):
        step = links / links.sum(1, keepdim=True).clamp(min=1)
        near = step @ x
        kinds = [self.own(x), self.near(near) * 3, self.far(step @ near) * 6]
        one, two = pairs.T
        seen = []
        for a in range(3):
            for b in range(a, 3):
                seen.append(
                    (kinds[a][one] * kinds[b][two] + kinds[b][one] * kinds[a][two]).sum(
                        1
                    )
                )
        return self.score(torch.stack(seen, 1))[:, 0]


def _build(good):
    torch.manual_seed(2106)
    batches = [graph() for _ in range(120)]

    def loss(model, batch):
        x, links, pairs, answers = batch
        if good:
            links = without(links, pairs)
        return F.binary_cross_entropy_with_logits(model(x, links, pairs), answers)

    model = Links()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
