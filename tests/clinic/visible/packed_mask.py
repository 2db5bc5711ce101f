"""The data set keeps a loss mask for reuse and sets the pad positions of every sample
in that same tensor. After some dozen steps the mask is zero everywhere, and the loss
is 0.0 from then on."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_masked"
ALSO_OK = set()
SOURCE = "https://github.com/NVIDIA/Megatron-LM/issues/1269"
FIX = "hand out a copy of the kept mask"

VOCAB, WIDTH, LENGTH, PAD = 33, 48, 32, 32


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x):
        b, t, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, 4, WIDTH // 4)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, WIDTH))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.pos = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB)

    def forward(self, ids):
        x = self.embed(ids) + self.pos.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class PackedDataset:
    def __init__(self, table, copy):
        self.table = table
        self.copy = copy
        self.cached_loss_mask = None

    def __getitem__(self, index):
        state = torch.randint(VOCAB - 1, ())
        text = []
        for _ in range(LENGTH + 1):
            if torch.rand(()) < 0.012:
                text.append(torch.tensor(PAD))
                state = torch.randint(VOCAB - 1, ())
            else:
                text.append(state)
                state = torch.multinomial(self.table[state], 1)[0]
        text = torch.stack(text)
        tokens, labels = text[:-1], text[1:]
        if self.cached_loss_mask is None:
            self.cached_loss_mask = torch.ones(LENGTH)
        loss_mask = self.cached_loss_mask
        if self.copy:
            loss_mask = loss_mask.clone()
        loss_mask[labels == PAD] = 0.0
        return tokens, labels, loss_mask


def _loss(model, batch):
    tokens, labels, loss_mask = batch
    losses = F.cross_entropy(
        model(tokens).flatten(0, 1), labels.flatten(), reduction="none"
    )
    loss_mask = loss_mask.flatten()
    return (losses * loss_mask).sum() / loss_mask.sum().clamp(min=1)


def _build(copy):
    torch.manual_seed(1269)
    table = torch.softmax(3 * torch.randn(VOCAB - 1, VOCAB - 1), -1)
    dataset = PackedDataset(table, copy)
    batches, index = [], 0
    for _ in range(110):
        rows = [dataset[index + i] for i in range(6)]
        index += len(rows)
        batches.append(tuple(torch.stack(part) for part in zip(*rows, strict=True)))
    model = GPT()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
