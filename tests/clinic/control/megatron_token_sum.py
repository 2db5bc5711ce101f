"""The loss function of a GPT returns the sum over all tokens, and the pipeline does not
divide it by their number. The gradient norm is in the hundreds, the loss explodes."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "sum_reduction"
ALSO_OK = {"lr_too_high"}
SOURCE = "https://github.com/alibaba/Pai-Megatron-Patch/issues/587"
FIX = "divide the summed loss by the number of tokens that take part in it"

VOCAB, LENGTH = 24, 16


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


class GPT(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, width)
        self.place = nn.Embedding(LENGTH, width)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCAB)

    def forward(self, ids):
        t = ids.shape[1]
        mask = torch.ones(t, t, dtype=torch.bool).triu(1)
        x = self.embed(ids) + self.place.weight[:t]
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))


def loss_func(losses, loss_mask, per_token):
    total = torch.sum(losses.view(-1) * loss_mask.view(-1))
    num_tokens = loss_mask.sum()
    return total / num_tokens if per_token else total


def _build(good):
    torch.manual_seed(4109)
    follow = torch.stack([torch.randperm(VOCAB)[:3] for _ in range(VOCAB)])
    batches = []
    for _ in range(120):
        ids = [torch.randint(VOCAB, (24,))]
        for _ in range(LENGTH - 1):
            ids.append(follow[ids[-1], torch.randint(3, (24,))])
        ids = torch.stack(ids, dim=1)
        loss_mask = torch.ones(24, LENGTH - 1)
        for row, n in zip(loss_mask, torch.randint(0, 5, (24,)).tolist(), strict=False):
            row[LENGTH - 1 - n :] = 0
        batches.append((ids, loss_mask))
    model = GPT()
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def loss(model, batch):
        ids, loss_mask = batch
        logits = model(ids)[:, :-1].transpose(1, 2)
        losses = F.cross_entropy(logits, ids[:, 1:], reduction="none")
        return loss_func(losses, loss_mask, good)

    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
