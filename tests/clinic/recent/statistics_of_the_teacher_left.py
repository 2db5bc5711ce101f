"""The averaged teacher gets the student's weights, but not the statistics of its norms.
It normalizes by those of the start, and its answers mislead the student."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "batchnorm_misuse"
ALSO_OK = set()
SOURCE = "https://github.com/saltoricristiano/cosmix-uda/issues/21"
FIX = "average the buffers of the student into the teacher as well"


class Pair(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.student = nn.Sequential(
            nn.BatchNorm1d(12),
            nn.Linear(12, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Linear(64, 4),
        )
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def follow(self):
        for old, new in zip(
            self.teacher.parameters(), self.student.parameters(), strict=True
        ):
            old.lerp_(new, 0.1)
        if self.good:
            for old, new in zip(
                self.teacher.buffers(), self.student.buffers(), strict=True
            ):
                old.copy_(new)

    def forward(self, x):
        scores = self.student(x)
        if self.training:
            self.follow()
        return scores, self.teacher(x).softmax(1)


def _loss(model, batch):
    x, labels, known = batch
    scores, answer = model(x)
    true = F.cross_entropy(scores[:known], labels[:known])
    return true + 2 * F.cross_entropy(scores[known:], answer[known:].detach())


def _build(good):
    torch.manual_seed(2109)
    middle, spread = 3 * torch.randn(12), torch.rand(12) * 3 + 0.5
    centers = torch.randn(4, 12)
    batches = []
    for _ in range(150):
        labels = torch.randint(0, 4, (96,))
        x = middle + spread * (centers[labels] + 0.6 * torch.randn(96, 12))
        batches.append((x, labels, 12))
    model = Pair(good)
    model.train()
    opt = torch.optim.Adam(model.student.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
