import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = {"dead_relu"}
SOURCE = "https://github.com/facebookresearch/detectron2/issues/214"
FIX = "scale the learning rate with the batch: 0.05 instead of 2"


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
        )
        self.label, self.box = nn.Linear(64, 5), nn.Linear(64, 4)

    def forward(self, x):
        h = self.trunk(x)
        return self.label(h), self.box(h)


def loss_fn(out, target):
    label, box = target
    return F.cross_entropy(out[0], label) + F.smooth_l1_loss(out[1], box)


def _build(good):
    torch.manual_seed(1)
    protos, v = torch.randn(5, 24), torch.randn(24, 4) / 5
    batches = []
    for _ in range(60):
        y = torch.randint(0, 5, (8,))
        x = protos[y] + 0.5 * torch.randn(8, 24)
        batches.append((x, (y, x @ v)))
    model = Detector()
    opt = torch.optim.SGD(model.parameters(), lr=0.05 if good else 2.0, momentum=0.9)
    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
