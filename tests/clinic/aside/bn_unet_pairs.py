import torch
from torch import nn

CAUSE = "batchnorm_misuse"
ALSO_OK = set()
SOURCE = "https://github.com/cvlab-epfl/disk/issues/6"
FIX = "instance norm, or more than one image a batch"


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.bn1 = nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.down2, self.bn2 = (
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.BatchNorm2d(24),
        )
        self.up, self.bn3 = nn.ConvTranspose2d(24, 12, 2, stride=2), nn.BatchNorm2d(12)
        self.out = nn.Conv2d(24, 1, 1)

    def forward(self, x):
        a = torch.relu(self.bn1(self.down1(x)))
        b = torch.relu(self.bn2(self.down2(a)))
        c = torch.relu(self.bn3(self.up(b)))
        return self.out(torch.cat([a, c], 1))


def _build(good):
    torch.manual_seed(116)
    batches = []
    for _ in range(60):
        n = 16 if good else 1
        level = 3 * torch.randn(n, 1, 1, 1)
        x = level + 0.5 * torch.randn(n, 1, 8, 8)
        batches.append((x, level.expand(n, 1, 8, 8).clone()))
    model = UNet()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=nn.MSELoss(), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
