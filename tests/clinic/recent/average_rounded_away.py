"""The averaged teacher is kept in bfloat16, where most of its steps are rounded away.
It stays near the random network of the start, and holds the student back."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "low_precision_updates"
ALSO_OK = set()
SOURCE = "https://github.com/d8ahazard/sd_dreambooth_extension/pull/1417"
FIX = "keep the averaged teacher in float32"


class Pair(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.student = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 5))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        if not good:
            self.teacher.bfloat16()

    @torch.no_grad()
    def follow(self):
        for old, new in zip(
            self.teacher.parameters(), self.student.parameters(), strict=True
        ):
            old.lerp_(new.to(old.dtype), 0.01)

    def forward(self, x, disturbed):
        if self.training:
            self.follow()
        with torch.no_grad():
            kind = self.teacher[0].weight.dtype
            answer = self.teacher(x.to(kind)).float().softmax(1)
        return self.student(disturbed), answer


def _loss(model, batch):
    x, disturbed, labels = batch
    scores, answer = model(x, disturbed)
    return F.cross_entropy(scores, labels) + 60 * F.mse_loss(scores.softmax(1), answer)


def _build(good):
    torch.manual_seed(2108)
    centers = torch.randn(5, 16)
    batches = []
    for _ in range(300):
        labels = torch.randint(0, 5, (64,))
        x = centers[labels] + 0.8 * torch.randn(64, 16)
        batches.append((x, x + 0.2 * torch.randn(64, 16), labels))
    model = Pair(good)
    opt = torch.optim.Adam(model.student.parameters(), lr=1e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
