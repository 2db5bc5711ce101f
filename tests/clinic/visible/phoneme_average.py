"""The aligner gives some phonemes no frame at all, and the average spectrum of such a
phoneme is a mean over nothing. The loss is not a number from the first sentence on
that has one."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/tuanh123789/AdaSpeech/issues/5"
FIX = "let the average of a phoneme without frames be zero"

PHONES, WIDTH, MELS, LENGTH, FRAMES = 20, 48, 16, 10, 40


def _average_mel_by_duration(mel, durations, guard):
    rows, start = [], 0
    for d in durations.tolist():
        part = mel[start : start + d]
        if guard and d == 0:
            rows.append(torch.zeros(MELS))
        else:
            rows.append(part.mean(0))
        start += d
    return torch.stack(rows)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + F.relu(self.conv(self.norm2(x).transpose(1, 2))).transpose(1, 2)


class Speaker(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(PHONES, WIDTH)
        self.encoder = Layer()
        self.phone_level = nn.Sequential(
            nn.Linear(MELS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)
        )
        self.duration = nn.Linear(WIDTH, 1)
        self.decoder = Layer()
        self.mel = nn.Linear(WIDTH, MELS)

    def forward(self, phones, average, durations):
        x = self.encoder(self.embed(phones))
        length = self.duration(x)[..., 0]
        x = x + self.phone_level(average)
        x = torch.stack(
            [row.repeat_interleave(d, 0) for row, d in zip(x, durations, strict=True)]
        )
        return self.mel(self.decoder(x)), length


def _loss(model, batch):
    phones, average, durations, mel = batch
    guess, length = model(phones, average, durations)
    return F.l1_loss(guess, mel) + F.mse_loss(length, torch.log1p(durations.float()))


def _sentence(timbre, lasts, guard):
    phones = torch.randint(PHONES, (LENGTH,))
    durations = lasts[phones] + torch.randint(0, 2, (LENGTH,))
    durations = (durations * FRAMES / durations.sum()).floor().long().clamp(min=1)
    if torch.rand(()) < 0.004:
        durations[torch.randint(LENGTH, ())] = 0
    longest = durations.argmax()
    durations[longest] += FRAMES - durations.sum()
    voice = 0.5 * torch.randn(LENGTH, MELS)
    mel = (timbre[phones] + voice).repeat_interleave(durations, 0)
    mel = mel + 0.1 * torch.randn(FRAMES, MELS)
    return phones, _average_mel_by_duration(mel, durations, guard), durations, mel


def _build(guard):
    torch.manual_seed(1205)
    timbre = torch.randn(PHONES, MELS)
    lasts = torch.randint(2, 6, (PHONES,))
    batches = []
    for _ in range(110):
        rows = [_sentence(timbre, lasts, guard) for _ in range(12)]
        batches.append(tuple(torch.stack(part) for part in zip(*rows, strict=True)))
    model = Speaker()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98), eps=1e-9)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
