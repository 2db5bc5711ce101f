"""Each photograph is stretched to -1..1 by its own darkest and brightest value; a few
photographs are of one flat color. The loss of a gated-convolution inpainting net
becomes NaN at the first of them, for good."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/avalonstrel/GatedConvolution_pytorch/issues/27"
FIX = "divide by at least one grey level, so that a flat photograph stays finite"

SIZE = 16
BATCH = 16
STEPS = 100


class Gated(nn.Module):
    def __init__(self, inside, outside, dilation=1):
        super().__init__()
        self.conv = nn.Conv2d(
            inside, 2 * outside, 3, padding=dilation, dilation=dilation
        )

    def forward(self, x):
        value, gate = self.conv(x).chunk(2, 1)
        return F.elu(value) * torch.sigmoid(gate)


class Inpaint(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.body = nn.Sequential(
            Gated(2, width),
            Gated(width, width, 2),
            Gated(width, width, 4),
            Gated(width, width),
        )
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, image, mask):
        x = torch.cat([image * (1 - mask), mask], 1)
        return self.last(self.body(x))


def _photos(count):
    axis = torch.arange(SIZE) / SIZE
    waves = torch.rand(count, 2, 3) * 4
    phase = waves[:, :, 0, None, None]
    down = waves[:, :, 1, None, None] * axis[:, None]
    right = waves[:, :, 2, None, None] * axis[None]
    light = torch.sin(phase + down + right).sum(1)
    scale = 20 + 40 * torch.rand(count, 1, 1)
    photos = (128 + scale * light).round()
    photos[430::577] = 255.0
    return photos[:, None]


def _stretch(photos, least):
    low = photos.amin((2, 3), keepdim=True)
    high = photos.amax((2, 3), keepdim=True)
    return (photos - low) / (high - low).clamp(min=least) * 2 - 1


def _loss(model, batch):
    image, mask = batch
    return (model(image, mask) - image).abs().mean()


def _build(least):
    torch.manual_seed(2711)
    images = _stretch(_photos(BATCH * STEPS), least)
    batches = []
    for image in images.split(BATCH):
        mask = torch.zeros_like(image)
        for one in mask:
            top, left = torch.randint(0, SIZE - 6, (2,)).tolist()
            one[:, top : top + 6, left : left + 6] = 1
        batches.append((image, mask))
    model = Inpaint()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(0.0)


def make_fixed():
    return _build(1.0)
