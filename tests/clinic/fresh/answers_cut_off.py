"""Prompts fill the length that is kept, so both answers of a pair are cut away.

Chosen and rejected are the same, and the loss is log 2 at every step.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"labels_masked", "zero_advantage"}
SOURCE = "https://github.com/OpenRLHF/OpenRLHF/issues/1311"
FIX = "keep more tokens, or cut the prompt and not the answer"


class Reward(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 24)
        self.rnn, self.head = nn.GRU(24, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, tokens):
        return self.head(self.rnn(self.table(tokens))[0][:, -1]).squeeze(1)


def _loss(model, batch):
    chosen, rejected = batch
    return -F.logsigmoid(model(chosen) - model(rejected)).mean()


def _build(good):
    torch.manual_seed(918)
    kept = 16 if good else 12
    batches = []
    for _ in range(100):
        prompt = torch.randint(0, 20, (32, 12))
        better = torch.randint(0, 14, (32, 4))
        worse = torch.randint(6, 20, (32, 4))
        chosen = torch.cat([prompt, better], 1)[:, :kept]
        rejected = torch.cat([prompt, worse], 1)[:, :kept]
        batches.append((chosen, rejected))
    model = Reward()
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
