"""A few utterances are so short that, after subsampling, they have fewer frames than
labels. No alignment exists for them: the CTC loss turns infinite, and the run is lost
from there on."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/k2-fsa/icefall/issues/135"
FIX = "drop the utterances that are too short from the manifest"

FEATURES = 12
TOKENS = 9


class Subsampling(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv1d(FEATURES, width, 3, stride=2)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2)

    def forward(self, x):
        x = F.relu(self.conv1(x.transpose(1, 2)))
        return F.relu(self.conv2(x)).transpose(1, 2)


class Acoustic(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.subsampling = Subsampling(width)
        self.encoder = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, TOKENS)

    def forward(self, features, num_frames):
        frames = ((num_frames - 1) // 2 - 1) // 2
        x = self.subsampling(features)
        mask = torch.arange(x.shape[1])[None] >= frames[:, None]
        x = self.norm(self.encoder(x, src_key_padding_mask=mask))
        return self.output(x).log_softmax(-1), frames


def _loss(model, batch):
    features, num_frames, tokens, num_tokens = batch
    log_probs, frames = model(features, num_frames)
    loss = F.ctc_loss(
        log_probs.transpose(0, 1), tokens, frames, num_tokens, reduction="sum"
    )
    return loss / frames.sum()


def _utterance(voices):
    count = int(torch.randint(3, 6, (1,)))
    tokens = torch.randint(1, TOKENS, (count,))
    short = bool(torch.rand(1) < 0.004)
    each = 2 if short else 10
    parts = [torch.zeros(3 if not short else 1, FEATURES)]
    for token in tokens:
        parts.append(voices[token].expand(each, FEATURES))
        if not short:
            parts.append(torch.zeros(4, FEATURES))
    features = torch.cat(parts)
    return features + 0.2 * torch.randn_like(features), tokens


def _collate(items):
    num_frames = torch.tensor([len(f) for f, _ in items])
    num_tokens = torch.tensor([len(t) for _, t in items])
    features = nn.utils.rnn.pad_sequence([f for f, _ in items], batch_first=True)
    return features, num_frames, torch.cat([t for _, t in items]), num_tokens


def _build(min_frames):
    torch.manual_seed(5366)
    voices = torch.randn(TOKENS, FEATURES)
    batches = []
    for _ in range(150):
        items = [_utterance(voices) for _ in range(16)]
        batches.append(_collate([i for i in items if len(i[0]) >= min_frames]))
    model = Acoustic()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=5.0)


def make():
    return _build(0)


def make_fixed():
    return _build(20)
