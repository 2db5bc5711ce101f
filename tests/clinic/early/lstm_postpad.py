"""A text classifier reads reviews with an LSTM whose last state goes to the head, and
the reviews are padded at the end. Long runs of padding wash the words out, and the
loss stays at 0.69 with an accuracy of one half."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "vanishing"
ALSO_OK = {"representation_collapse"}
SOURCE = "https://github.com/keras-team/keras-io/issues/2044"
FIX = "put the padding in front of the words"

VOCAB, LENGTH, WIDTH = 200, 110, 24


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, 16)
        self.lstm = nn.LSTM(16, WIDTH, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
        )

    def forward(self, ids):
        out, _ = self.lstm(self.embed(ids))
        return self.head(out[:, -1]).squeeze(1)


def _loss(output, target):
    return F.binary_cross_entropy_with_logits(output, target)


def _build(front):
    torch.manual_seed(2044)
    mood = torch.randn(VOCAB)
    batches = []
    for _ in range(110):
        ids = torch.zeros(32, LENGTH, dtype=torch.long)
        y = torch.randint(0, 2, (32,))
        for i in range(32):
            n = int(torch.randint(12, 26, (1,)))
            odds = torch.exp((2 * y[i] - 1) * 1.2 * mood[1:])
            words = torch.multinomial(odds, n, replacement=True) + 1
            if front:
                ids[i, LENGTH - n :] = words
            else:
                ids[i, :n] = words
        batches.append((ids, y.float()))
    model = Classifier()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
