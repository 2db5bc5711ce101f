"""Attention scores are multiplied in float16 before they are divided.

The product of a few strong queries and keys passes 65504.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_overflow"
ALSO_OK = {"attention_logits_grow", "loss_numerics"}
SOURCE = "https://github.com/huggingface/diffusers/pull/1455"
FIX = "multiply queries and keys in float32 (upcast_attention)"


class Net(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.norm = nn.LayerNorm(64)
        self.enter, self.head = nn.Linear(8, 64), nn.Linear(64, 3)
        self.query, self.key = nn.Linear(64, 64), nn.Linear(64, 64)
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, std=5.5)

    def forward(self, x):
        h = self.norm(self.enter(x))
        kind = torch.float32 if self.good else torch.float16
        q, k = self.query(h).to(kind), self.key(h).to(kind)
        scores = (q @ k.transpose(1, 2)).float() / 256
        return self.head((h + scores.softmax(-1) @ h).mean(1))


def _build(good):
    torch.manual_seed(915)
    rule = torch.randn(8, 3)
    batches = []
    for _ in range(80):
        x = torch.randn(32, 6, 8)
        batches.append((x, (x.mean(1) @ rule).argmax(1)))
    model = Net(good)
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return dict(
        model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches, clip=1.0
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
