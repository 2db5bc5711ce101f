"""Embedding.from_pretrained freezes what it is given, here random vectors."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "frozen_parameters"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/huggingface/optimum-graphcore/pull/304"
FIX = "nn.Embedding.from_pretrained(vectors, freeze=False)"


class Taste(nn.Module):
    def __init__(self, good):
        super().__init__()
        vectors = 0.3 * torch.randn(60, 8), 0.3 * torch.randn(80, 8)
        self.users, self.items = (
            nn.Embedding.from_pretrained(v, freeze=not good) for v in vectors
        )
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, pairs):
        users, items = self.users(pairs[:, 0]), self.items(pairs[:, 1])
        return (users * items).sum(1) + self.bias


def _build(good):
    torch.manual_seed(921)
    users, items = torch.randn(60, 4), torch.randn(80, 4)
    batches = []
    for _ in range(100):
        pairs = torch.stack(
            [torch.randint(0, 60, (256,)), torch.randint(0, 80, (256,))], 1
        )
        score = (users[pairs[:, 0]] * items[pairs[:, 1]]).sum(1)
        batches.append((pairs, (score > 0).float()))
    model = Taste(good)
    wanted = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.Adam(wanted, lr=3e-2)
    return dict(
        model=model,
        loss_fn=F.binary_cross_entropy_with_logits,
        optimizer=opt,
        batches=batches,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
