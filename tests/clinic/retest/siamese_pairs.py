"""The gallery holds some pictures twice, so the two sides of a pair can be the very
same picture, at distance zero. The square root of the squared distance has no slope
there: after some updates all weights are nan."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/adambielski/siamese-triplet/issues/18"
FIX = "add a small epsilon to the squared distance before the square root"

MARGIN = 1.0


class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(1, 12, 3),
            nn.PReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3),
            nn.PReLU(),
        )
        self.fc = nn.Sequential(nn.Linear(24 * 9, 32), nn.PReLU(), nn.Linear(32, 4))

    def forward(self, x):
        return self.fc(self.convs(x).flatten(1))


def _contrastive(eps):
    def loss(model, batch):
        left, right, same = batch
        distances = (model(left) - model(right)).pow(2).sum(1)
        apart = F.relu(MARGIN - (distances + eps).sqrt()).pow(2)
        return (0.5 * (same * distances + (1 - same) * apart)).mean()

    return loss


def _build(eps):
    torch.manual_seed(4104)
    looks = torch.randn(6, 1, 12, 12)
    label = torch.randint(6, (360,))
    images = looks[label] * 0.8 + torch.randn(360, 1, 12, 12) * 0.6
    again = torch.randperm(360)[:48]
    images, label = torch.cat([images, images[again]]), torch.cat([label, label[again]])
    batches = []
    for _ in range(120):
        first = torch.randint(len(label), (32,))
        same = (torch.arange(32) % 2).float()
        second = []
        for i, s in zip(first.tolist(), same.tolist(), strict=True):
            match = label == label[i] if s else label != label[i]
            match[i] = False
            pool = match.nonzero()[:, 0]
            second.append(int(pool[int(torch.randint(len(pool), ()))]))
        batches.append((images[first], images[second], same))
    model = Embedding()
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    return dict(model=model, loss=_contrastive(eps), optimizer=opt, batches=batches)


def make():
    return _build(0.0)


def make_fixed():
    return _build(1e-9)
