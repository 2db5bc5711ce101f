import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unnormalized_input"
ALSO_OK = {"saturated_activation"}
SOURCE = "https://stackoverflow.com/questions/55328966"
FIX = "divide the pixels by 255"


def _build(good):
    torch.manual_seed(107)
    protos = torch.rand(6, 64)
    batches = []
    for _ in range(80):
        y = torch.randint(0, 6, (32,))
        x = (255 * (protos[y] + 0.15 * torch.randn(32, 64)).clamp(0, 1)).round()
        batches.append((x / 255 if good else x, y))
    model = nn.Sequential(nn.Linear(64, 64), nn.Sigmoid(), nn.Linear(64, 6))
    opt = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
