"""Faces of two kinds are read folder by folder, and no one shuffles them. The loss
swings up and down early in training instead of falling."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unshuffled_data"
ALSO_OK = set()
SOURCE = "https://github.com/epfml/disco/issues/288"
FIX = "shuffle the samples over the whole data set"

SIDE = 16


class FaceNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(32 * 16, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x):
        return self.head(self.features(x))


def _faces(count, wide):
    faces = 0.9 * torch.randn(count, 1, SIDE, SIDE)
    gap, mouth = (4, 3) if wide else (3, 4)
    for face in faces[:, 0]:
        y, x = (torch.randint(6, 9, (2,))).tolist()
        face[y - 2, x - gap : x - gap + 2] += 2
        face[y - 2, x + gap - 2 : x + gap] += 2
        face[y + 3, x - mouth : x + mouth] += 2
        face[y : y + 2, x] += 1
    return faces


def _build(shuffle):
    torch.manual_seed(2880)
    images = torch.cat((_faces(192, False), _faces(192, True)))
    labels = torch.arange(2).repeat_interleave(192)
    batches = []
    while len(batches) < 144:
        order = torch.arange(len(images))
        if shuffle:
            order = torch.randperm(len(images))
        for part in order.split(16):
            batches.append((images[part], labels[part]))
    model = FaceNet()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(
        model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches[:144]
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
