"""Scores are stretched to zero and one in float16, where the guard of 1e-8 is zero.
A group that the teacher scores alike is divided by nothing, and all becomes NaN."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"fp16_underflow"}
SOURCE = "https://github.com/lightonai/pylate/issues/239"
FIX = "stretch the scores in float32"


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Sequential(nn.Linear(12, 48), nn.GELU(), nn.Linear(48, 16))
        self.text = nn.Sequential(nn.Linear(12, 48), nn.GELU(), nn.Linear(48, 16))

    def forward(self, query, texts):
        query = F.normalize(self.query(query), dim=-1)
        texts = F.normalize(self.text(texts), dim=-1)
        return (query[:, None] * texts).sum(-1).half()


def _build(good):
    torch.manual_seed(2120)
    likeness = torch.randn(12, 12) / 3
    batches = []
    for _ in range(150):
        query, texts = torch.randn(64, 12), torch.randn(64, 6, 12)
        teacher = torch.einsum("ni,ij,nkj->nk", query, likeness, texts)
        alike = torch.rand(64) < 0.01
        teacher[alike] = teacher[alike][:, :1]
        batches.append((query, texts, teacher))

    def stretched(scores):
        scores = scores.float() if good else scores.half()
        low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
        return (scores - low) / (high - low + 1e-8)

    def loss(model, batch):
        query, texts, teacher = batch
        mine = 5 * stretched(model(query, texts)).float()
        its = 5 * stretched(teacher).float()
        return F.kl_div(mine.log_softmax(1), its.softmax(1), reduction="batchmean")

    model = Tower()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
