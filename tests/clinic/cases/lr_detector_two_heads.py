import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = set()
SOURCE = "https://github.com/facebookresearch/maskrcnn-benchmark/issues/295"
FIX = "scale the learning rate with the batch: 0.02 instead of 1.5"


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.classes = nn.Linear(16 * 9, 4)
        self.boxes = nn.Linear(16 * 9, 2)

    def forward(self, x):
        features = self.body(x)
        return self.classes(features), self.boxes(features)


def loss_fn(out, target):
    label, box = target
    return F.cross_entropy(out[0], label) + F.smooth_l1_loss(out[1], box)


def _build(good):
    torch.manual_seed(101)
    patterns = torch.randn(4, 1, 8, 8)
    batches = []
    for _ in range(60):
        label = torch.randint(0, 4, (8,))
        box = torch.rand(8, 2)
        x = patterns[label] * (0.5 + box.mean(1)[:, None, None, None])
        batches.append((x + 0.3 * torch.randn(8, 1, 8, 8), (label, box)))
    model = Detector()
    opt = torch.optim.SGD(model.parameters(), lr=0.02 if good else 1.5, momentum=0.9)
    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
