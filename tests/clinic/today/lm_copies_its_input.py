import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "target_leak"
ALSO_OK = {"labels_misaligned"}
SOURCE = "https://github.com/huggingface/transformers/issues/27517"
FIX = "compare logits[:, :-1] with labels[:, 1:]"


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.rnn = nn.Embedding(24, 32), nn.LSTM(32, 64, batch_first=True)
        self.head = nn.Linear(64, 24)

    def forward(self, ids):
        return self.head(self.rnn(self.table(ids))[0])


def _build(good):
    torch.manual_seed(503)
    step = torch.randint(1, 5, (64, 32))
    batches = []
    for i in range(64):
        start = torch.randint(0, 24, (32, 1))
        batches.append((start + step[i][:, None] * torch.arange(14)) % 24)

    def loss(model, ids):
        logits = model(ids)
        if good:
            logits, ids = logits[:, :-1], ids[:, 1:]
        return F.cross_entropy(logits.reshape(-1, 24), ids.reshape(-1))

    model = Decoder()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
