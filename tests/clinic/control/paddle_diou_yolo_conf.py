"""A small YOLO head; the objectness loss is written out with logarithms of the
sigmoid. The loss falls for some dozen updates, then it is NaN and stays so."""

import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/miemie2013/Paddle-DIOU-YOLOv3/issues/1"
FIX = "add a tiny constant inside each logarithm of the objectness loss"

GRID, STRIDE = 6, 4


class Yolo(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(32, 32, 3, 1, 1),
            nn.LeakyReLU(0.1),
        )
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, x):
        return self.head(self.body(x)).permute(0, 2, 3, 1)


def decode(out):
    steps = torch.arange(GRID, dtype=torch.float32)
    grid_y, grid_x = torch.meshgrid(steps, steps, indexing="ij")
    cx = (out[..., 1].sigmoid() + grid_x) * STRIDE
    cy = (out[..., 2].sigmoid() + grid_y) * STRIDE
    w = out[..., 3].clamp(-3, 3).exp() * STRIDE
    h = out[..., 4].clamp(-3, 3).exp() * STRIDE
    return torch.stack([cx, cy, w, h], -1)


def diou(a, b):
    a1, a2 = a[:, :2] - a[:, 2:] / 2, a[:, :2] + a[:, 2:] / 2
    b1, b2 = b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2
    inter = (torch.min(a2, b2) - torch.max(a1, b1)).clamp(min=0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - inter
    span = torch.max(a2, b2) - torch.min(a1, b1)
    center = (a[:, :2] - b[:, :2]).square().sum(1)
    return inter / union - center / span.square().sum(1)


def _build(good):
    torch.manual_seed(4101)
    batches = []
    for _ in range(120):
        x = 0.05 * torch.randn(16, 1, 24, 24)
        mask = torch.zeros(16, GRID, GRID)
        box = torch.zeros(16, GRID, GRID, 4)
        for i in range(16):
            w, h = torch.randint(3, 9, (2,)).tolist()
            left = int(torch.randint(0, 24 - w, (1,)))
            top = int(torch.randint(0, 24 - h, (1,)))
            light = float(torch.randn(1).exp())
            x[i, 0, top : top + h, left : left + w] += light
            cx, cy = left + w / 2, top + h / 2
            col, row = int(cx // STRIDE), int(cy // STRIDE)
            mask[i, row, col] = 1
            box[i, row, col] = torch.tensor([cx, cy, float(w), float(h)])
        batches.append((x, mask, box))
    model = Yolo()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    tiny = 1e-9 if good else 0.0

    def loss(model, batch):
        x, mask, box = batch
        out = model(x)
        conf = torch.sigmoid(out[..., 0])
        positive = mask * (0 - torch.log(conf + tiny))
        negative = (1 - mask) * (0 - torch.log(1 - conf + tiny))
        found = mask.bool()
        place = 1 - diou(decode(out)[found], box[found])
        return positive.mean() * 8 + negative.mean() + place.mean()

    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
