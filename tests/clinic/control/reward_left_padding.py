"""The reward model looks for the end of the answer at the first padding token, but this
tokenizer pads on the left. The loss is NaN as soon as one prompt has padding."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_masked"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/deepspeedai/DeepSpeedExamples/issues/571"
FIX = "take the length of the sequence as the end, since the padding is on the left"

VOCAB, PAD, LENGTH, ANSWER = 32, 0, 14, 5


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x, mask):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class RewardModel(nn.Module):
    def __init__(self, left, width=48):
        super().__init__()
        self.left = left
        self.embed = nn.Embedding(VOCAB, width)
        self.place = nn.Embedding(LENGTH, width)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.v_head = nn.Linear(width, 1, bias=False)

    def rewards(self, ids):
        t = ids.shape[1]
        mask = torch.ones(t, t, dtype=torch.bool).triu(1)
        x = self.embed(ids) + self.place.weight[:t]
        for block in self.blocks:
            x = block(x, mask)
        return self.v_head(self.norm(x)).squeeze(-1)

    def end(self, ids):
        length = len(ids)
        if self.left:
            return length
        pads = (ids == PAD).nonzero()
        return pads[0].item() if len(pads) else length

    def forward(self, chosen, rejected):
        values = self.rewards(torch.cat([chosen, rejected]))
        n = len(chosen)
        loss = 0.0
        for i in range(n):
            begin = (chosen[i] != rejected[i]).nonzero()[0].item()
            end = max(self.end(chosen[i]), self.end(rejected[i]))
            gap = values[i, begin:end] - values[n + i, begin:end]
            loss = loss - F.logsigmoid(gap).mean()
        return loss / n


def _loss(model, batch):
    return model(*batch)


def _build(good):
    torch.manual_seed(4102)
    worth = torch.randn(VOCAB)
    batches = []
    for _ in range(100):
        n = 20
        prompt = torch.randint(1, VOCAB, (n, LENGTH - ANSWER))
        for row, pads in zip(
            prompt, torch.randint(0, LENGTH - ANSWER - 2, (n,)), strict=False
        ):
            row[:pads] = PAD
        first, second = torch.randint(1, VOCAB, (2, n, ANSWER)).unbind(0)
        better = worth[first].mean(1) > worth[second].mean(1)
        chosen = torch.where(better[:, None], first, second)
        rejected = torch.where(better[:, None], second, first)
        batches.append(
            (torch.cat([prompt, chosen], 1), torch.cat([prompt, rejected], 1))
        )
    model = RewardModel(good)
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
