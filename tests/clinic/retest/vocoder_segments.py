"""Each segment of audio is divided by its peak, and a segment of digital silence has
the peak zero. Such a segment becomes not a number, and with it the loss and every
weight of the vocoder."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"bad_data"}
SOURCE = "https://github.com/bshall/hifigan/issues/4"
FIX = "keep the divisor above 0.001"

HOP = 16
FRAMES = 16
MELS = 10


def logmel(wav):
    frames = F.pad(wav, (HOP // 2, HOP // 2)).unfold(-1, 2 * HOP, HOP)
    power = torch.fft.rfft(frames * torch.hann_window(2 * HOP)).abs()
    bands = F.adaptive_avg_pool1d(power, MELS)
    return bands.clamp(min=1e-2).log().transpose(1, 2)


class Generator(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.conv_pre = nn.Conv1d(MELS, width, 3, padding=1)
        self.up1 = nn.ConvTranspose1d(width, width, 8, stride=4, padding=2)
        self.res1 = nn.Conv1d(width, width, 3, padding=1)
        self.up2 = nn.ConvTranspose1d(width, width, 8, stride=4, padding=2)
        self.res2 = nn.Conv1d(width, width, 5, padding=2)
        self.conv_post = nn.Conv1d(width, 1, 7, padding=3)

    def forward(self, mel):
        x = F.leaky_relu(self.up1(self.conv_pre(mel)), 0.1)
        x = F.leaky_relu(self.up2(x + self.res1(x)), 0.1)
        x = F.leaky_relu(x + self.res2(x), 0.1)
        return torch.tanh(self.conv_post(x)).squeeze(1)


def _loss(model, wav):
    mel = logmel(wav)[..., :FRAMES]
    return F.l1_loss(logmel(model(mel))[..., :FRAMES], mel)


def _segment(tones):
    time = torch.arange(HOP * FRAMES)
    if torch.rand(1) < 0.003:
        return torch.zeros(HOP * FRAMES)
    pick = torch.randperm(len(tones))[:2]
    phase = 6.28 * torch.rand(2, 1)
    switch = int(torch.randint(60, 200, (1,)))
    waves = torch.sin(tones[pick, None] * time + phase)
    return torch.cat([waves[0, :switch], waves[1, switch:]]) * torch.rand(1)


def _build(floor):
    torch.manual_seed(5422)
    tones = torch.linspace(0.3, 2.6, 8)
    batches = []
    for _ in range(110):
        wavs = []
        for _ in range(12):
            wav = _segment(tones)
            gain = 0.5 + 0.45 * torch.rand(1)
            flip = 1 - 2 * torch.randint(2, (1,))
            wavs.append(flip * gain * wav / max([wav.abs().max(), floor]))
        batches.append(torch.stack(wavs))
    model = Generator()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.8, 0.99))
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(0.0)


def make_fixed():
    return _build(0.001)
