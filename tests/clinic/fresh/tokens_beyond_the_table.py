"""Special tokens were added to the tokenizer, and no rows to the embedding."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"shape_mismatch"}
SOURCE = "https://github.com/huggingface/transformers/issues/12763"
FIX = "model.resize_token_embeddings(len(tokenizer))"


class Tagger(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.table = nn.Embedding(words, 24)
        self.rnn = nn.GRU(24, 32, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, tokens):
        return self.head(self.rnn(self.table(tokens))[0][:, -1])


def _build(good):
    torch.manual_seed(914)
    batches = []
    for _ in range(100):
        tokens = torch.randint(0, 30, (32, 10))
        kind = torch.randint(0, 3, (32,))
        spoken = torch.rand(32) < 0.3
        tokens[:, 0] = torch.where(spoken, 30, tokens[:, 0])
        tokens[:, 9] = 10 * kind + tokens[:, 9] % 10
        batches.append((tokens, kind))
    model = Tagger(31 if good else 30)
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
