"""A small BERT (masked words and next sentence) of a tutorial is trained with Adam at
ten times the rate it bears: the loss drops from its first value and then stands where
all answers are alike."""

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "lr_too_high"
ALSO_OK = {"warmup_missing"}
SOURCE = "https://github.com/graykode/nlp-tutorial/issues/77"
FIX = "lower the learning rate to a tenth"

PAD, CLS, SEP, MASK = range(4)
WORDS, MAXLEN, WIDTH, HEADS, LAYERS, MAX_PRED = 29, 19, 64, 4, 6, 3


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x, pad):
        def split(t):
            return t.view(*t.shape[:2], HEADS, -1).transpose(1, 2)

        q, k, v = split(self.q(x)), split(self.k(x)), split(self.v(x))
        scores = q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)
        weights = torch.softmax(scores.masked_fill(pad[:, None, None, :], -1e9), dim=-1)
        context = (weights @ v).transpose(1, 2).reshape(x.shape)
        return self.norm(self.out(context) + x)


class EncoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = Attention()
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x, pad):
        return self.fc2(F.gelu(self.fc1(self.attention(x, pad))))


class BERT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(WORDS, WIDTH)
        self.positions = nn.Embedding(MAXLEN, WIDTH)
        self.segments = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.layers = nn.ModuleList(EncoderLayer() for _ in range(LAYERS))
        self.fc = nn.Linear(WIDTH, WIDTH)
        self.classifier = nn.Linear(WIDTH, 2)
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.decoder_bias = nn.Parameter(torch.zeros(WORDS))

    def forward(self, ids, segments, masked_pos):
        x = (
            self.tokens(ids)
            + self.positions.weight[: ids.shape[1]]
            + self.segments(segments)
        )
        x, pad = self.norm(x), ids == PAD
        for layer in self.layers:
            x = layer(x, pad)
        is_next = self.classifier(torch.tanh(self.fc(x[:, 0])))
        masked = x.gather(1, masked_pos[:, :, None].expand(-1, -1, WIDTH))
        masked = self.norm2(F.gelu(self.linear(masked)))
        return masked @ self.tokens.weight.T + self.decoder_bias, is_next


def _loss(model, batch):
    ids, segments, masked_pos, masked_tokens, is_next = batch
    lm, clsf = model(ids, segments, masked_pos)
    return F.cross_entropy(lm.transpose(1, 2), masked_tokens) + F.cross_entropy(
        clsf, is_next
    )


def _sample(sentences, rng):
    first = rng.randrange(len(sentences))
    follows = rng.random() < 0.5
    others = [i for i in range(len(sentences)) if i != (first + 1) % len(sentences)]
    second = (first + 1) % len(sentences) if follows else rng.choice(others)
    a, b = sentences[first], sentences[second]
    ids = [CLS, *a, SEP, *b, SEP]
    segments = [0] * (len(a) + 2) + [1] * (len(b) + 1)
    places = [i for i, t in enumerate(ids) if t not in (CLS, SEP)]
    pos = rng.sample(places, MAX_PRED)
    tokens = [ids[i] for i in pos]
    for i in pos:
        if rng.random() < 0.8:
            ids[i] = MASK
        elif rng.random() < 0.5:
            ids[i] = rng.randrange(4, WORDS)
    ids += [PAD] * (MAXLEN - len(ids))
    segments += [0] * (MAXLEN - len(segments))
    return ids, segments, pos, tokens, int(follows)


def _build(good):
    torch.manual_seed(634)
    rng = random.Random(int(torch.randint(10**6, (1,))))
    sentences = [
        [rng.randrange(4, WORDS) for _ in range(rng.randint(4, 8))] for _ in range(8)
    ]
    rows = [_sample(sentences, rng) for _ in range(6)]
    batch = tuple(torch.tensor(column) for column in zip(*rows, strict=False))
    model = BERT()
    opt = torch.optim.Adam(model.parameters(), lr=1e-3 if good else 1e-2)
    return dict(model=model, loss=_loss, optimizer=opt, batches=[batch] * 110)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
