"""A BERT with tied decoder gets a bigger vocabulary, and its own initialization is not
applied to the new embedding. The masked-language loss starts four times too high."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "init_too_large"
ALSO_OK = set()
SOURCE = "https://github.com/AnswerDotAI/ModernBERT/pull/96"
FIX = "initialize the resized embedding as the others, with a deviation of 0.02"

OLD, VOCAB, LENGTH, MASK = 16, 160, 12, 1


class FlexBert(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.embed = nn.Embedding(OLD, width)
        self.place = nn.Embedding(LENGTH, width)
        self.embed_norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)
        )
        self.bias = nn.Parameter(torch.zeros(VOCAB))
        self.apply(self.init_weights)

    @staticmethod
    def init_weights(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.trunc_normal_(module.weight, std=0.02, a=-0.06, b=0.06)

    def resize_token_embeddings(self, size, init):
        new = nn.Embedding(size, self.embed.embedding_dim)
        if init:
            self.init_weights(new)
        with torch.no_grad():
            new.weight[:OLD] = self.embed.weight
        self.embed = new

    def forward(self, ids):
        x = self.embed_norm(self.embed(ids) + self.place.weight)
        return F.linear(self.head(self.encoder(x)), self.embed.weight, self.bias)


def _loss(model, batch):
    ids, labels = batch
    return F.cross_entropy(model(ids).transpose(1, 2), labels)


def _build(good):
    torch.manual_seed(4111)
    topics = torch.rand(8, VOCAB).topk(8, dim=1).indices.clamp(min=2)
    batches = []
    for _ in range(140):
        topic = torch.randint(8, (32, 1)).expand(32, LENGTH)
        words = topics[topic, torch.randint(8, (32, LENGTH))]
        hidden = torch.rand(32, LENGTH) < 0.3
        hidden[:, 0] = True
        labels = words.masked_fill(~hidden, -100)
        batches.append((words.masked_fill(hidden, MASK), labels))
    model = FlexBert()
    model.resize_token_embeddings(VOCAB, init=good)
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-5)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
