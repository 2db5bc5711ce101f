"""The state after the padding is read, not the one after the last real token."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "padding_in_loss"
ALSO_OK = {"vanishing", "wrong_axis"}
SOURCE = "https://github.com/ray-project/ray/issues/21392"
FIX = "gather the state at length - 1 (or pack the sequences)"


class Reader(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.table = nn.Embedding(12, 16, padding_idx=0)
        self.rnn = nn.LSTM(16, 32, batch_first=True)
        self.head = nn.Linear(32, 2)

    def forward(self, tokens):
        states = self.rnn(self.table(tokens))[0]
        last = (tokens != 0).sum(1) - 1
        if not self.good:
            return self.head(states[:, -1])
        return self.head(states[torch.arange(len(tokens)), last])


def _build(good):
    torch.manual_seed(910)
    batches = []
    for _ in range(100):
        length = torch.randint(3, 9, (32,))
        tokens = torch.randint(1, 12, (32, 80))
        tokens[torch.arange(80) >= length[:, None]] = 0
        kind = ((tokens > 6) & (tokens != 0)).sum(1) * 2 > length
        batches.append((tokens, kind.long()))
    model = Reader(good)
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(
        model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches, clip=1.0
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
