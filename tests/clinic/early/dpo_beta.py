"""Preference training of a small language model with a beta of zero, so the
difference of the log ratios never reaches the loss. The loss is 0.6931 from the first
step to the last, and the rewards are all zero."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = {"learning_rate_zero", "frozen_parameters", "vanishing", "zero_advantage"}
SOURCE = "https://github.com/huggingface/trl/issues/1627"
FIX = "set beta to 0.1"

VOCAB, LENGTH, WIDTH = 32, 14, 32


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, x):
        n = x.shape[1]
        mask = torch.ones(n, n, dtype=torch.bool).triu(1)
        h = self.n1(x)
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.n2(x))


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(VOCAB, WIDTH)
        self.pos = nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.02)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids):
        x = self.tok(ids) + self.pos[: ids.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def sequence_logp(model, ids, prompt):
    logp = F.log_softmax(model(ids[:, :-1]), dim=-1)
    picked = logp.gather(2, ids[:, 1:, None]).squeeze(2)
    return picked[:, prompt - 1 :].sum(1)


class DPO:
    def __init__(self, ref, beta, prompt):
        self.ref, self.beta, self.prompt = ref, beta, prompt

    def __call__(self, model, batch):
        chosen, rejected = batch
        pol = sequence_logp(model, chosen, self.prompt) - sequence_logp(
            model, rejected, self.prompt
        )
        with torch.no_grad():
            ref = sequence_logp(self.ref, chosen, self.prompt) - sequence_logp(
                self.ref, rejected, self.prompt
            )
        logits = pol - ref
        return -F.logsigmoid(self.beta * logits).mean()


def _build(beta):
    torch.manual_seed(77)
    model = LM()
    ref = copy.deepcopy(model).eval()
    for p in ref.parameters():
        p.requires_grad_(False)
    batches = []
    for _ in range(100):
        prompt = torch.randint(0, VOCAB, (12, 6))
        polite = torch.randint(0, VOCAB // 2 + 4, (12, 8))
        blunt = torch.randint(VOCAB // 2 - 4, VOCAB, (12, 8))
        batches.append((torch.cat([prompt, polite], 1), torch.cat([prompt, blunt], 1)))
    opt = torch.optim.AdamW(model.parameters(), lr=5e-4)
    return dict(
        model=model, loss=DPO(ref, beta, 6), optimizer=opt, batches=batches, clip=1.0
    )


def make():
    return _build(0.0)


def make_fixed():
    return _build(0.1)
