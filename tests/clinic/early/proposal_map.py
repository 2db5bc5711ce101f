"""The map loss of a network for temporal proposals is weighted by all cells over
positive cells; with small batches, a batch comes in which no cell passes the
threshold. From that step on the loss is NaN."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"bad_data"}
SOURCE = "https://github.com/JJBOY/BMN-Boundary-Matching-Network/issues/23"
FIX = "leave the weighted term out for a batch without a positive cell"

TIME = 20
SPANS = 10
FEATURES = 12


class Proposals(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.base = nn.Sequential(
            nn.Conv1d(FEATURES, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(width, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(width, width, 5, padding=2),
            nn.ReLU(),
        )
        self.map = nn.Conv1d(width, 2 * SPANS, 5, padding=2)

    def forward(self, x):
        out = torch.sigmoid(self.map(self.base(x)))
        return out.chunk(2, 1)


def _overlap(start, end):
    left = torch.arange(TIME)[None].float()
    right = left + torch.arange(1, SPANS + 1)[:, None]
    shared = (torch.minimum(right, end) - torch.maximum(left, start)).clamp(min=0)
    return shared / (right - left + end - start - shared)


def _video(pattern):
    length = 2 + 7 * torch.rand(())
    start = torch.rand(()) * (TIME - length)
    end = start + length
    edges = torch.arange(TIME).float()
    cover = (torch.minimum(edges + 1, end) - torch.maximum(edges, start)).clamp(0, 1)
    features = pattern[:, None] * cover + 0.3 * torch.randn(FEATURES, TIME)
    return features, _overlap(start, end)


def _weighted(pred, iou, careful):
    hit = (iou > 0.9).float()
    positive = hit.sum()
    if careful and positive == 0:
        return 0.0 * pred.sum()
    ratio = hit.numel() / positive
    coef_0 = 0.5 * ratio / (ratio - 1)
    coef_1 = 0.5 * ratio
    pos = coef_1 * hit * torch.log(pred + 1e-6)
    neg = coef_0 * (1 - hit) * torch.log(1 - pred + 1e-6)
    return -(pos + neg).mean()


def _build(careful):
    torch.manual_seed(2023)
    pattern = torch.randn(FEATURES)
    batches = []
    for _ in range(120):
        videos = [_video(pattern) for _ in range(4)]
        batches.append(tuple(torch.stack(part) for part in zip(*videos, strict=True)))

    def loss(model, batch):
        features, iou = batch
        score, fit = model(features)
        return _weighted(score, iou, careful) + 10 * F.mse_loss(fit, iou)

    model = Proposals()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
