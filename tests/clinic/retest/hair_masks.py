"""The pictures and the masks are listed each in the order in which the disk happens
to return them, not sorted by name. Most pictures are paired with the mask of another
one, and the dice loss stays close to that of a constant mask."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK = set()
SOURCE = "https://github.com/TRANHV-VFA-DO-NOT-USE/MobileAILab-HairColor-iOS/issues/2"
FIX = "sorted(glob(...)) for the pictures and for the masks"

SIZE = 16


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()
        )
        self.down = nn.Sequential(
            nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU()
        )
        self.up = nn.Upsample(scale_factor=2)
        self.leave = nn.Conv2d(36, 1, 3, padding=1)

    def forward(self, x):
        fine = self.enter(x)
        x = torch.cat([fine, self.up(self.down(fine))], 1)
        return self.leave(x)[:, 0].sigmoid()


def _dice_loss(output, mask):
    output, mask = output.flatten(), mask.flatten()
    return 1 - (2 * (output * mask).sum() + 1) / (output.sum() + mask.sum() + 1)


def _glob(folder, by_name):
    names = list(folder)
    if by_name:
        return sorted(names)
    return [names[i] for i in torch.randperm(len(names))]


def _build(by_name):
    torch.manual_seed(4112)
    images, masks = {}, {}
    for number in range(600):
        field = F.interpolate(torch.randn(1, 1, 4, 4), size=SIZE, mode="bicubic")[0, 0]
        mask = (field > 0.4).float()
        color = torch.tensor([0.9, -0.6, 0.4])[:, None, None]
        images[f"{number:04d}.jpg"] = mask * color + torch.randn(3, SIZE, SIZE) * 0.5
        masks[f"{number:04d}.ppm"] = mask
    x = torch.stack([images[name] for name in _glob(images, by_name)])
    y = torch.stack([masks[name] for name in _glob(masks, by_name)])
    batches = []
    for _ in range(100):
        pick = torch.randint(600, (16,))
        batches.append((x[pick], y[pick]))
    model = Segmenter()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss_fn=_dice_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
