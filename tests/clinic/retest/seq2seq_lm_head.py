"""The output layer of a small T5 that is trained from scratch starts with variance
one in every weight. The first loss is many times that of a uniform guess, and the run
spends itself on coming down."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "init_too_large"
ALSO_OK = set()
SOURCE = "https://github.com/huggingface/transformers/pull/26441"
FIX = "start lm_head with variance 1 / d_model"

VOCAB = 40
D_MODEL = 96
HEADS = 4
LENGTH = 12


class T5Attention(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.causal = causal
        self.q = nn.Linear(D_MODEL, D_MODEL, bias=False)
        self.k = nn.Linear(D_MODEL, D_MODEL, bias=False)
        self.v = nn.Linear(D_MODEL, D_MODEL, bias=False)
        self.o = nn.Linear(D_MODEL, D_MODEL, bias=False)
        self.relative_attention_bias = nn.Embedding(2 * LENGTH + 3, HEADS)
        dk = D_MODEL // HEADS
        nn.init.normal_(self.q.weight, std=(D_MODEL * dk) ** -0.5)
        for layer in (self.k, self.v, self.o):
            nn.init.normal_(layer.weight, std=D_MODEL**-0.5)
        nn.init.normal_(self.relative_attention_bias.weight, std=D_MODEL**-0.5)

    def forward(self, x, memory):
        def split(y):
            return y.view(y.shape[0], y.shape[1], HEADS, -1).transpose(1, 2)

        q, k, v = split(self.q(x)), split(self.k(memory)), split(self.v(memory))
        here, there = torch.arange(x.shape[1]), torch.arange(memory.shape[1])
        gap = here[:, None] - there[None]
        bias = self.relative_attention_bias(gap + LENGTH + 1).permute(2, 0, 1)
        scores = q @ k.transpose(-2, -1) + bias
        if self.causal:
            scores = scores.masked_fill(gap < 0, -1e9)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
        return self.o(y)


class T5Block(nn.Module):
    def __init__(self, decoder):
        super().__init__()
        self.attn = T5Attention(decoder)
        self.cross = T5Attention(False) if decoder else None
        self.wi = nn.Linear(D_MODEL, 2 * D_MODEL, bias=False)
        self.wo = nn.Linear(2 * D_MODEL, D_MODEL, bias=False)
        nn.init.normal_(self.wi.weight, std=D_MODEL**-0.5)
        nn.init.normal_(self.wo.weight, std=(2 * D_MODEL) ** -0.5)
        self.norms = nn.ModuleList(nn.RMSNorm(D_MODEL) for _ in range(3))

    def forward(self, x, memory=None):
        h = self.norms[0](x)
        x = x + self.attn(h, h)
        if self.cross is not None:
            x = x + self.cross(self.norms[1](x), memory)
        return x + self.wo(F.relu(self.wi(self.norms[2](x))))


class T5(nn.Module):
    def __init__(self, head_std):
        super().__init__()
        self.shared = nn.Embedding(VOCAB, D_MODEL)
        self.encoder = T5Block(False)
        self.decoder = T5Block(True)
        self.encoder_norm = nn.RMSNorm(D_MODEL)
        self.decoder_norm = nn.RMSNorm(D_MODEL)
        self.lm_head = nn.Linear(D_MODEL, VOCAB, bias=False)
        nn.init.normal_(self.shared.weight, std=1.0)
        nn.init.normal_(self.lm_head.weight, std=head_std)

    def forward(self, source, inputs):
        memory = self.encoder_norm(self.encoder(self.shared(source)))
        x = self.decoder(self.shared(inputs), memory)
        return self.lm_head(self.decoder_norm(x))


def _loss(model, batch):
    source, target = batch
    inputs = F.pad(target[:, :-1], (1, 0))
    logits = model(source, inputs)
    return F.cross_entropy(logits.reshape(-1, VOCAB), target.reshape(-1))


def _build(head_std):
    torch.manual_seed(5355)
    follow = torch.randperm(VOCAB - 1) + 1
    batches = []
    for _ in range(80):
        now = torch.randint(1, VOCAB, (16,))
        words = []
        for _ in range(LENGTH):
            words.append(now)
            jump = torch.rand(16) < 0.05
            now = torch.where(jump, torch.randint(1, VOCAB, (16,)), follow[now - 1])
        target = torch.stack(words, 1)
        hidden = torch.rand(target.shape) < 0.05
        batches.append((target.masked_fill(hidden, 0), target))
    model = T5(head_std)
    opt = torch.optim.AdamW(model.parameters(), lr=2e-4)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(1.0)


def make_fixed():
    return _build(D_MODEL**-0.5)
