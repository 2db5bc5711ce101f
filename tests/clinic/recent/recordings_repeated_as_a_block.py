"""Answers come sorted by recording, the recordings are repeated as a whole beside them.
Nearly every answer is scored under another recording, so none tells anything."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK = set()
SOURCE = "https://github.com/wenet-e2e/west/pull/121"
FIX = "repeat each recording in place (repeat_interleave), as the answers are ordered"

ANSWERS, LENGTH, WORDS = 4, 6, 10


class Listener(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(WORDS + 1, 32)
        self.sound = nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Linear(32, 32))
        self.cell = nn.GRU(32, 48, batch_first=True)
        self.out = nn.Linear(48, WORDS)

    def forward(self, sound, before):
        return self.out(self.cell(self.words(before) + self.sound(sound)[:, None])[0])


def _build(good):
    torch.manual_seed(2104)
    accents = torch.randn(6, 12)
    habits = 5 * torch.randn(6, LENGTH, WORDS)
    batches = []
    for _ in range(120):
        who = torch.randint(0, 6, (16,))
        sound = accents[who] + 0.3 * torch.randn(16, 12)
        logits = habits[who.repeat_interleave(ANSWERS)]
        said = torch.distributions.Categorical(logits=logits).sample()
        batches.append((sound, said))

    def loss(model, batch):
        sound, said = batch
        if good:
            sound = sound.repeat_interleave(ANSWERS, 0)
        else:
            sound = sound.repeat(ANSWERS, 1)
        before = F.pad(said[:, :-1], (1, 0), value=WORDS)
        return F.cross_entropy(model(sound, before).flatten(0, 1), said.flatten())

    model = Listener()
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
