"""Two views of a picture form a pair, and the triplet loss takes the nearest of all
other pictures as the negative. The embeddings shrink to one point, and the loss stays
at the margin."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "representation_collapse"
ALSO_OK = set()
SOURCE = "https://github.com/wanggrun/triplet/issues/1"
FIX = "use a smooth mean of the negatives from rank k on in place of the nearest one"

MARGIN = 0.5


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 64),
            nn.ReLU(),
            nn.Linear(64, 32),
        )

    def forward(self, x):
        return F.normalize(self.body(x), dim=1)


def _distances(model, batch):
    a, b = model(batch[0]), model(batch[1])
    squared = (2 - 2 * a @ b.T).clamp(min=0)
    own = torch.eye(len(a), dtype=torch.bool)
    return squared.diagonal(), squared.masked_fill(own, 9.0).sort(1).values[:, :-1]


def _hardest(model, batch):
    positive, negatives = _distances(model, batch)
    return F.relu(positive - negatives[:, 0] + MARGIN).mean()


def _smooth_rank(model, batch):
    positive, negatives = _distances(model, batch)
    return F.relu(positive - negatives[:, 8:].mean(1) + MARGIN).mean()


def _view(pictures):
    gain = torch.rand(len(pictures), 1, 1, 1) * 0.8 + 0.6
    shift = torch.randint(-2, 3, (2,)).tolist()
    return torch.roll(pictures * gain, shift, (2, 3)) + 0.4 * torch.randn_like(pictures)


def _build(loss):
    torch.manual_seed(77)
    batches = []
    for _ in range(150):
        pictures = F.avg_pool2d(torch.randn(64, 1, 16, 16), 5, 1, 2) * 4
        batches.append((_view(pictures), _view(pictures)))
    model = Embedder()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(_hardest)


def make_fixed():
    return _build(_smooth_rank)
