import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unnormalized_input"
ALSO_OK = {"vanishing"}
SOURCE = "https://github.com/4uiiurz1/pytorch-nested-unet/issues/62"
FIX = "divide by 255 once"


def _build(good):
    torch.manual_seed(713)
    patterns = torch.rand(4, 1, 8, 8)
    batches = []
    for _ in range(80):
        y = torch.randint(0, 4, (32,))
        image = (255 * (0.6 * patterns[y] + 0.4 * torch.rand(32, 1, 8, 8))).round()
        x = image / 255
        batches.append((x if good else x / 255, y))
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 4),
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
