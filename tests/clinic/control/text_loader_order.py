"""The data module builds its loader without shuffling, and the texts lie in the file
class after class. The loss jumps each time the next class begins."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unshuffled_data"
ALSO_OK = set()
SOURCE = "https://github.com/Lightning-Universe/lightning-transformers/issues/298"
FIX = "shuffle the training set in every epoch"

VOCAB, LENGTH, CLASSES, ROWS = 40, 10, 4, 768


class Classifier(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, width)
        self.place = nn.Parameter(torch.randn(LENGTH, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, ids):
        x = self.encoder(self.embed(ids) + self.place)
        return self.classifier(self.norm(x.mean(dim=1)))


class DataModule:
    def __init__(self, ids, labels, shuffle):
        self.ids, self.labels, self.shuffle = ids, labels, shuffle

    def train_dataloader(self, size=32):
        rows = torch.randperm(ROWS) if self.shuffle else torch.arange(ROWS)
        for part in rows.split(size):
            yield self.ids[part], self.labels[part]


def _build(good):
    torch.manual_seed(4110)
    model = Classifier()
    usual = torch.randn(CLASSES, VOCAB).mul(0.8).softmax(dim=1)
    labels = torch.arange(CLASSES).repeat_interleave(ROWS // CLASSES)
    ids = torch.multinomial(usual[labels], LENGTH, replacement=True)
    data = DataModule(ids, labels, shuffle=good)
    batches = [batch for _ in range(5) for batch in data.train_dataloader()]
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return dict(
        model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches, clip=1.0
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
