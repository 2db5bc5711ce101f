"""A small language model is trained with a hundred times the advised rate.

The loss stops at what the frequencies of the tokens give.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = {"warmup_missing"}
SOURCE = "https://github.com/QwenLM/Qwen3-VL/issues/1854"
FIX = "lr=2e-3, not 3e-1"


class Lm(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(24, 48)
        self.place = nn.Embedding(12, 48)
        self.blocks = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(
                48, 4, 96, 0.0, batch_first=True, norm_first=True
            ),
            2,
            enable_nested_tensor=False,
        )
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, 24)

    def forward(self, tokens):
        size = tokens.size(1)
        mask = nn.Transformer.generate_square_subsequent_mask(size)
        h = self.table(tokens) + self.place(torch.arange(size))
        return self.head(self.norm(self.blocks(h, mask=mask, is_causal=True)))


def _loss(model, tokens):
    logits = model(tokens[:, :-1])
    return F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:])


def _build(good):
    torch.manual_seed(926)
    following = torch.stack([torch.randperm(24)[:2] for _ in range(24)])
    batches = []
    for _ in range(80):
        tokens = [torch.randint(0, 24, (16,))]
        for _ in range(12):
            tokens.append(following[tokens[-1], torch.randint(0, 2, (16,))])
        batches.append(torch.stack(tokens, 1))
    model = Lm()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3 if good else 3e-1)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
