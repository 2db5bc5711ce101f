"""A vocoder is trained on predicted spectrograms, some of which hold values that are no
numbers. The loss is nan already in the first epoch."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = set()
SOURCE = "https://github.com/CorentinJ/Real-Time-Voice-Cloning/issues/797"
FIX = "leave out the files with such values"

MELS = 8
LEVELS = 16
HOP = 8
FRAMES = 5


class WaveRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.condition = nn.Conv1d(MELS, 16, 3, padding=1)
        self.embed = nn.Embedding(LEVELS, 16)
        self.rnn = nn.GRU(32, 48, batch_first=True)
        self.out = nn.Linear(48, LEVELS)

    def forward(self, wave, mel):
        aux = torch.tanh(self.condition(mel)).repeat_interleave(HOP, dim=2)
        x = torch.cat((self.embed(wave), aux.transpose(1, 2)), 2)
        hidden, _ = self.rnn(x)
        return self.out(hidden)


def _loss(model, batch):
    wave, mel = batch
    logits = model(wave[:, :-1], mel)
    return F.cross_entropy(logits.flatten(0, 1), wave[:, 1:].flatten())


def _corpus(files):
    length = FRAMES * HOP + 1
    pitch = 0.15 + 0.5 * torch.rand(files, 1)
    phase = 6.28 * torch.rand(files, 1)
    level = 0.4 + 0.6 * torch.rand(files, 1)
    signal = level * torch.sin(pitch * torch.arange(length) + phase)
    signal = signal + 0.03 * torch.randn(files, length)
    wave = ((signal + 1.05) / 2.1 * LEVELS).long().clamp(0, LEVELS - 1)
    bands = torch.linspace(0.1, 0.7, MELS)
    energy = level * torch.exp(-100 * (pitch - bands).square())
    power = energy[:, :, None] + 0.05 * torch.randn(files, MELS, FRAMES).abs()
    power[:, :, 0] *= 0.5
    mel = (power + 0.01).log()
    torn = torch.randperm(files)[: files // 160]
    mel[torn, :, -1] = float("nan")
    return wave, mel


def _build(check):
    torch.manual_seed(7972)
    wave, mel = _corpus(480)
    keep = torch.arange(len(wave))
    if check:
        keep = keep[mel.isfinite().flatten(1).all(1)]
    batches = []
    while len(batches) < 100:
        for part in keep[torch.randperm(len(keep))].split(16)[:-1]:
            batches.append((wave[part], mel[part]))
    model = WaveRNN()
    opt = torch.optim.Adam(model.parameters(), lr=4e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches[:100])


def make():
    return _build(False)


def make_fixed():
    return _build(True)
