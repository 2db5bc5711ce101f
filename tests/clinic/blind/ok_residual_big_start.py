import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "the first gradients are large and fall"
FIX = "nothing to fix"


def images(n, batch, size=12, classes=6, noise=0.6):
    protos = torch.randn(classes, 3, size, size)
    out = []
    for _ in range(n):
        y = torch.randint(0, classes, (batch,))
        out.append((protos[y] + noise * torch.randn(batch, 3, size, size), y))
    return out


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(2, 16), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        return x + self.conv(F.relu(self.norm(x)))


def make():
    torch.manual_seed(137)
    batches = images(60, 16)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        *(Block() for _ in range(6)),
        nn.Flatten(),
        nn.Linear(576, 6),
    )
    nn.init.normal_(model[-1].weight, std=0.5)
    opt = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
    return dict(
        model=model,
        loss_fn=F.cross_entropy,
        optimizer=opt,
        batches=batches,
        clip=None,
        scheduler=None,
    )


make_fixed = make
