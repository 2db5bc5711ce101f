"""Ten small batches are accumulated before each update, and their gradients are added,
not averaged. With one batch at this rate all is well; with ten the loss and the
gradients explode after some updates."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "sum_reduction"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://github.com/fastai/fastai2/pull/194"
FIX = "divide each loss by the number of batches that are accumulated"

CLASSES, N_ACC = 8, 10


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(32 * 4, 64), nn.ReLU(), nn.Linear(64, CLASSES)
        )

    def forward(self, x):
        return self.head(self.features(x))


def _build(good):
    torch.manual_seed(178)
    shapes = torch.randn(CLASSES, 1, 8, 8)
    batches = []
    for _ in range(80):
        group = []
        for _ in range(N_ACC):
            y = torch.randint(CLASSES, (8,))
            group.append((shapes[y] + 0.5 * torch.randn(8, 1, 8, 8), y))
        batches.append(group)
    model = Net()
    opt = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)

    def step(batch):
        total = 0.0
        for x, y in batch:
            loss = F.cross_entropy(model(x), y)
            total += loss.item() / len(batch)
            if good:
                loss = loss / len(batch)
            loss.backward()
        opt.step()
        opt.zero_grad()
        return torch.tensor(total)

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
