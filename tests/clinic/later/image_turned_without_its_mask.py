import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/InSAI-Lab/Trans4PASS/issues/6"
FIX = "warp the image and its mask by one and the same transformation"


def _turned(image, mask, good):
    turns = torch.randint(0, 4, (len(image),))
    pairs = [
        (x.rot90(int(k), (-2, -1)), m.rot90(int(k), (-2, -1)) if good else m)
        for x, m, k in zip(image, mask, turns, strict=True)
    ]
    images, masks = zip(*pairs, strict=True)
    return torch.stack(images), torch.stack(masks)


def _build(good):
    torch.manual_seed(715)
    batches = []
    grid = torch.arange(12.0)
    for _ in range(60):
        center = 1 + 9 * torch.rand(16, 2, 1)
        far = (grid - center[:, 0]).square()[:, :, None]
        far = far + (grid - center[:, 1]).square()[:, None]
        mask = (far < 7).float()[:, None]
        image = mask + 0.3 * torch.randn_like(mask)
        batches.append(_turned(image, mask, good))
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 1, 1),
    )
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    loss_fn = F.binary_cross_entropy_with_logits
    return dict(model=model, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
