"""A T5 is fine-tuned in float16, and for a rare word its feed-forward layer yields
more than 65504. The hidden state becomes infinite, the norm after it makes that not a
number, and the loss follows."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_overflow"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/huggingface/transformers/pull/9487"
FIX = "clamp the hidden states to the largest values of float16 after each layer"

VOCAB = 28
D_MODEL = 32
D_FF = 64
HEADS = 4
LENGTH = 14
RARE = 1


class T5LayerNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D_MODEL))

    def forward(self, hidden):
        variance = hidden.float().pow(2).mean(-1, keepdim=True)
        return self.weight * (hidden.float() * torch.rsqrt(variance + 1e-6))


class T5Block(nn.Module):
    def __init__(self, clamp):
        super().__init__()
        self.clamp = clamp
        self.norm1 = T5LayerNorm()
        self.norm2 = T5LayerNorm()
        self.qkv = nn.Linear(D_MODEL, 3 * D_MODEL, bias=False)
        self.o = nn.Linear(D_MODEL, D_MODEL, bias=False)
        self.wi = nn.Linear(D_MODEL, D_FF, bias=False)
        self.wo = nn.Linear(D_FF, D_MODEL, bias=False)

    def _bounded(self, hidden):
        if self.clamp and torch.isinf(hidden).any():
            bound = torch.finfo(hidden.dtype).max - 1000
            hidden = torch.clamp(hidden, min=-bound, max=bound)
        return hidden

    def forward(self, hidden):
        b, t, c = hidden.shape
        qkv = self.qkv(self.norm1(hidden)).view(b, t, 3, HEADS, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)).float() / (c // HEADS) ** 0.5
        y = (scores.softmax(-1).half() @ v).transpose(1, 2).reshape(b, t, c)
        hidden = self._bounded(hidden + self.o(y))
        return self._bounded(hidden + self.wo(F.relu(self.wi(self.norm2(hidden)))))


class T5(nn.Module):
    def __init__(self, clamp):
        super().__init__()
        self.shared = nn.Embedding(VOCAB, D_MODEL)
        self.block = nn.ModuleList(T5Block(clamp) for _ in range(2))
        self.final_layer_norm = T5LayerNorm()
        self.lm_head = nn.Linear(D_MODEL, VOCAB, bias=False)

    def forward(self, ids):
        with torch.autocast("cpu", dtype=torch.float16):
            hidden = self.shared(ids).half()
            for block in self.block:
                hidden = block(hidden)
            return self.lm_head(self.final_layer_norm(hidden)).float()


def _pretrained(model):
    with torch.no_grad():
        model.shared.weight[:, 0] = -1.0
        model.shared.weight[RARE, 0] = 9.0
        model.block[0].wi.weight[0] = 0.0
        model.block[0].wi.weight[0, 0] = 100.0
        model.block[0].wo.weight[:, 0] = 0.0
        model.block[0].wo.weight[3, 0] = 190.0


def _loss(model, batch):
    ids, labels = batch
    return F.cross_entropy(model(ids).reshape(-1, VOCAB), labels.reshape(-1))


def _build(clamp):
    torch.manual_seed(5399)
    partner = torch.randperm(VOCAB)
    batches = []
    for _ in range(110):
        ids = torch.randint(2, VOCAB, (16, LENGTH))
        ids[torch.rand(ids.shape) < 0.00015] = RARE
        labels = torch.where(torch.rand(ids.shape) < 0.9, partner[ids], ids)
        batches.append((ids, labels))
    model = T5(clamp)
    _pretrained(model)
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
