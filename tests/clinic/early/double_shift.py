"""Supervised fine-tuning of a causal language model: the collator shifts the labels
by one, and the model shifts them again. Each position is asked for the token after
the next one, and the loss settles far above the loss of the same run elsewhere."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK = set()
SOURCE = "https://github.com/hiyouga/LlamaFactory/issues/10457"
FIX = "leave the shift to the model"

VOCAB, LENGTH, WIDTH = 40, 20, 48


class RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return self.weight * x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = RMSNorm(), RMSNorm()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.down = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        b, n, w = x.shape
        q, k, v = self.qkv(self.n1(x)).view(b, n, 3, 4, -1).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).reshape(b, n, w))
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class CausalLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = RMSNorm()
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids, labels):
        logits = self.head(self.norm(self.blocks(self.tok(ids))))
        return F.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
        )


def _loss(model, batch):
    return model(batch["input_ids"], labels=batch["labels"])


def plain_collator(ids, labels):
    return dict(input_ids=ids, labels=labels)


def workflow_collator(ids, labels):
    return dict(input_ids=ids[:, :-1], labels=labels[:, 1:])


def _build(collator):
    torch.manual_seed(10457)
    follow = torch.randint(0, VOCAB, (VOCAB, 3))
    batches = []
    for _ in range(110):
        ids = torch.randint(0, VOCAB, (16, LENGTH + 1))
        for t in range(1, LENGTH + 1):
            pick = torch.randint(0, 3, (16,))
            ids[:, t] = follow[ids[:, t - 1], pick]
        labels = ids.clone()
        labels[:, :4] = -100
        batches.append(collator(ids, labels))
    model = CausalLM()
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(workflow_collator)


def make_fixed():
    return _build(plain_collator)
