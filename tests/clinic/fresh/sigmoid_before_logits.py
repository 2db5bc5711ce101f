"""A segmentation network ends in a sigmoid, and the loss applies another one."""

import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"saturated_activation"}
SOURCE = "https://github.com/avBuffer/UNet3plus_pth/issues/23"
FIX = "leave the sigmoid to binary_cross_entropy_with_logits"


def _build(good):
    torch.manual_seed(904)
    batches = []
    for _ in range(80):
        corner = torch.randint(0, 11, (16, 2))
        row, column = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
        inside = (row - corner[:, :1, None]).abs() < 5
        inside = inside & ((column - corner[:, 1:, None]).abs() < 5)
        mask = inside[:, None].float()
        batches.append((mask + 0.5 * torch.randn_like(mask), mask))
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 1, 3, padding=1),
    )
    if not good:
        model.append(nn.Sigmoid())
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(
        model=model, loss_fn=nn.BCEWithLogitsLoss(), optimizer=opt, batches=batches
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
