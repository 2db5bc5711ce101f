"""A small PointNet with batch norm, trained on two clouds at a time. The loss stays
near that of guessing among the classes; with larger batches it learns."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "batchnorm_misuse"
ALSO_OK = set()
SOURCE = "https://github.com/charlesq34/pointnet/issues/37"
FIX = "batches of 32 clouds"

CLASSES, POINTS = 6, 48


class PointNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.each = nn.Sequential(
            nn.Conv1d(3, 32, 1),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Conv1d(32, 64, 1),
            nn.BatchNorm1d(64),
            nn.ReLU(),
        )
        self.whole = nn.Sequential(
            nn.Linear(64, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Linear(64, 32),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Linear(32, CLASSES),
        )

    def forward(self, x):
        return self.whole(self.each(x.transpose(1, 2)).amax(2))


def _build(good):
    torch.manual_seed(4112)
    radii = 0.2 + 1.5 * torch.rand(CLASSES, 3) ** 2
    clouds = 32 if good else 2
    batches = []
    for _ in range(150):
        y = torch.randint(0, CLASSES, (clouds,))
        x = F.normalize(torch.randn(clouds, POINTS, 3), dim=2) * radii[y][:, None]
        batches.append((x + 0.02 * torch.randn_like(x), y))
    model = PointNet()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
