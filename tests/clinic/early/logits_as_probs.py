"""The sequence model returns logits, and the loss takes them for probabilities: it
clips them to between zero and one before the logarithm. The loss starts high, falls
some way, and then stays far above what the model could reach, or grows back."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"dead_relu", "saturated_activation", "vanishing"}
SOURCE = "https://github.com/tensorflow/models/issues/10761"
FIX = "apply softmax to the outputs before the loss"

VOCAB, LENGTH, WIDTH = 30, 10, 48
EPS = 1e-7


class Seq2Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.src = nn.Embedding(VOCAB, WIDTH)
        self.tgt = nn.Embedding(VOCAB, WIDTH)
        self.pos = nn.Parameter(torch.randn(LENGTH + 1, WIDTH) * 0.1)
        self.encoder = nn.TransformerEncoderLayer(
            WIDTH, 4, 96, dropout=0.0, batch_first=True
        )
        self.decoder = nn.TransformerDecoderLayer(
            WIDTH, 4, 96, dropout=0.0, batch_first=True
        )
        self.out = nn.Linear(WIDTH, VOCAB)

    def forward(self, src, tgt):
        n = tgt.shape[1]
        mask = torch.ones(n, n, dtype=torch.bool).triu(1)
        memory = self.encoder(self.src(src) + self.pos[: src.shape[1]])
        x = self.decoder(self.tgt(tgt) + self.pos[:n], memory, tgt_mask=mask)
        return self.out(x)


def sparse_categorical_crossentropy(target, output):
    output = output.clamp(EPS, 1 - EPS)
    output = output / output.sum(-1, keepdim=True)
    return -output.log().gather(-1, target.unsqueeze(-1)).mean()


class Wrapped:
    def __init__(self, activation):
        self.activation = activation

    def __call__(self, model, batch):
        src, tgt = batch
        out = self.activation(model(src, tgt[:, :-1]))
        return sparse_categorical_crossentropy(tgt[:, 1:], out)


def _build(activation):
    torch.manual_seed(107)
    follow = torch.randint(1, VOCAB, (VOCAB, 3))
    words = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(VOCAB - 1) + 1])
    batches = []
    for _ in range(120):
        src = torch.randint(1, VOCAB, (24, LENGTH))
        for t in range(1, LENGTH):
            pick = torch.randint(0, 3, (24,))
            src[:, t] = follow[src[:, t - 1], pick]
        tgt = torch.cat([torch.zeros(24, 1, dtype=torch.long), words[src]], 1)
        batches.append((src, tgt))
    model = Seq2Seq()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    return dict(model=model, loss=Wrapped(activation), optimizer=opt, batches=batches)


def make():
    return _build(lambda x: x)


def make_fixed():
    return _build(lambda x: F.softmax(x, dim=-1))
