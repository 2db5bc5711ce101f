import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/rbgirshick/py-faster-rcnn/issues/19"
FIX = "clip the boxes: a width of -1 has no logarithm"


def loss_fn(out, box):
    width = torch.log(box[:, 2:] - box[:, :2])
    return F.smooth_l1_loss(out, torch.cat([box[:, :2], width], 1))


def _build(good):
    torch.manual_seed(17)
    batches = []
    for i in range(60):
        corner = torch.rand(16, 2)
        box = torch.cat([corner, corner + 0.1 + torch.rand(16, 2)], 1)
        x = torch.cat([box, torch.randn(16, 8)], 1)
        if i in (9, 33) and not good:
            box[2, 2] = box[2, 0] - 0.05  # off by one pixel
        batches.append((x, box))
    model = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 4))
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
