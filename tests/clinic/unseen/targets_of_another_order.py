import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/MultimediaTechLab/YOLO/issues/85"
FIX = "index images and targets by the same shuffled order"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
        )
        self.box = nn.Linear(8 * 25, 2)

    def forward(self, x):
        return self.box(self.see(x))


def _build(good):
    torch.manual_seed(810)
    grid = torch.linspace(-1, 1, 10)
    center = 1.6 * torch.rand(1280, 2) - 0.8
    far = (grid - center[:, :1]).square()[:, :, None]
    far = far + (grid - center[:, 1:]).square()[:, None]
    image = (-4 * far).exp()[:, None] + 0.1 * torch.randn(1280, 1, 10, 10)
    if not good:
        center = center[torch.randperm(1280)]
    batches = list(zip(image.split(16), center.split(16), strict=True))
    model = Net()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=F.smooth_l1_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
