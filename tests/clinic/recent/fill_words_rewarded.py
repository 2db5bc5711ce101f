"""The mask of the answers is read off tokens that are never marked, so it is all ones.
The fill behind an answer counts in what came before it, and the student never ends."""

import torch
from torch import nn

CAUSE = "padding_in_loss"
ALSO_OK = set()
SOURCE = "https://github.com/huggingface/trl/issues/7024"
FIX = "build the mask from the labels, in which the fill is marked"

WORDS, END, FILL, LENGTH = 12, 0, 11, 10


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(WORDS, 24)
        self.out = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, WORDS))

    def forward(self, before):
        return self.out(self.words(before)).log_softmax(-1)


def answer(model, first):
    """Answers of the student to first words, filled up behind their end."""
    words, over = [first], torch.zeros(len(first), dtype=torch.bool)
    with torch.no_grad():
        for _ in range(LENGTH):
            word = torch.multinomial(model(words[-1]).exp(), 1)[:, 0]
            word = torch.where(over, FILL, word)
            over = over | (word == END)
            words.append(word)
    return torch.stack(words, 1)


def _build(good):
    torch.manual_seed(2113)
    habit = 2 * torch.randn(WORDS, WORDS)
    habit[:, END] = habit.logsumexp(1) - 1
    habit[:, FILL] = -12
    habit = habit.log_softmax(1)
    batches = [torch.randint(1, FILL, (128,)) for _ in range(200)]

    def loss(model, first):
        words = answer(model, first)
        before, after = words[:, :-1], words[:, 1:]
        labels = torch.where(after == FILL, -100, after)
        mask = ((labels if good else after) != -100).float()
        logp = model(before).gather(2, after[..., None])[..., 0]
        wish = habit[before].gather(2, after[..., None])[..., 0]
        gain = (wish - logp.detach()) * mask
        ahead = gain.flip(1).cumsum(1).flip(1)
        ahead = ahead - ahead.mean(0)
        return -(ahead * logp * mask).sum() / mask.sum()

    model = Student()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
