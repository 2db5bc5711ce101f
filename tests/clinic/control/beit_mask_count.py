"""The generator of block masks is asked for one patch, less than its smallest block, so
many images go unmasked and no patch is left to predict. The loss turns to NaN."""

import math

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_masked"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/microsoft/unilm/issues/551"
FIX = "ask for as many masked patches as the recipe does, 40 % of the image"

GRID, TOKENS, PIXELS = 8, 8, 12


class MaskingGenerator:
    def __init__(self, num_mask_patches, min_num_patches=16):
        self.count, self.smallest = num_mask_patches, min_num_patches

    def _block(self, mask, most):
        for _ in range(10):
            u, v = torch.rand(2).tolist()
            area = self.smallest + (most - self.smallest) * u
            aspect = math.exp(math.log(0.3) * (1 - 2 * v))
            h = round(math.sqrt(area * aspect))
            w = round(math.sqrt(area / aspect))
            if not (0 < h < GRID and 0 < w < GRID):
                continue
            top = torch.randint(GRID - h + 1, ()).item()
            left = torch.randint(GRID - w + 1, ()).item()
            part = mask[top : top + h, left : left + w]
            new = h * w - int(part.sum())
            if 0 < new <= most:
                part.fill_(True)
                return new
        return 0

    def __call__(self):
        mask = torch.zeros(GRID, GRID, dtype=torch.bool)
        done = 0
        while done < self.count:
            new = self._block(mask, self.count - done)
            if not new:
                break
            done += new
        return mask.flatten()


class Beit(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.patch = nn.Linear(PIXELS, width)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.place = nn.Parameter(torch.randn(GRID * GRID, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, TOKENS)

    def forward(self, image, masked):
        x = self.patch(image)
        x = torch.where(masked[..., None], self.mask_token, x) + self.place
        return self.lm_head(self.norm(self.encoder(x)))[masked]


def _loss(model, batch):
    image, tokens, masked = batch
    return F.cross_entropy(model(image, masked), tokens[masked])


def _build(good):
    torch.manual_seed(4103)
    generate = MaskingGenerator(26 if good else 1)
    look = torch.randn(TOKENS, PIXELS)
    images = []
    for _ in range(60):
        main = torch.randint(TOKENS, ())
        other = torch.randint(TOKENS, (GRID * GRID,))
        tokens = torch.where(torch.rand(GRID * GRID) < 0.9, main, other)
        images.append((look[tokens] + 0.3 * torch.randn(GRID * GRID, PIXELS), tokens))
    model = Beit()
    batches = []
    for _ in range(5):
        for pair in torch.randperm(60).view(-1, 2).tolist():
            image, tokens = (
                torch.stack(a) for a in zip(*(images[i] for i in pair), strict=False)
            )
            masked = torch.stack([generate() for _ in pair])
            batches.append((image, tokens, masked))
    opt = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.05)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=3.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
