"""A line recognizer is trained with CTC, and a few images are so narrow that they
have fewer columns than their text has letters. The loss falls, is infinite at the
first such image, and NaN ever after."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/intel/handwritten-chinese-ocr-samples/issues/10"
FIX = "leave out the images with fewer columns than their text needs"

LETTERS, HEIGHT = 12, 8


class Recognizer(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(HEIGHT, 48, 5, padding=2),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Conv1d(48, 48, 3, stride=2, padding=1),
            nn.BatchNorm1d(48),
            nn.ReLU(),
        )
        self.head = nn.Linear(48, LETTERS + 1)

    def forward(self, x):
        return self.head(self.conv(x).transpose(1, 2))


def _loss(model, batch):
    image, width, text, length = batch
    logp = F.log_softmax(model(image), dim=-1).transpose(0, 1)
    return F.ctc_loss(logp, text, (width + 1) // 2, length, blank=0)


def _line(shapes, narrow):
    n = int(torch.randint(4, 9, (1,)))
    text = torch.randint(1, LETTERS + 1, (n,))
    parts = []
    for letter in text.tolist():
        wide = 1 if narrow else int(torch.randint(4, 7, (1,)))
        body = shapes[letter - 1][:, :1].expand(-1, wide)
        parts.append(body)
        if not narrow:
            parts.append(torch.zeros(HEIGHT, 2))
    image = torch.cat(parts, 1)
    return image + 0.15 * torch.randn_like(image), text


def _collate(lines):
    width = torch.tensor([i.shape[1] for i, _ in lines])
    length = torch.tensor([t.shape[0] for _, t in lines])
    image = torch.zeros(len(lines), HEIGHT, int(width.max()))
    text = torch.zeros(len(lines), int(length.max()), dtype=torch.long)
    for row, (i, t) in enumerate(lines):
        image[row, :, : i.shape[1]] = i
        text[row, : t.shape[0]] = t
    return image, width, text, length


def _build(check):
    torch.manual_seed(1022)
    shapes = torch.randn(LETTERS, HEIGHT, 4)
    batches = []
    for number in range(110):
        lines = [_line(shapes, False) for _ in range(16)]
        if number % 30 == 22:
            lines[5] = _line(shapes, True)
        if check:
            lines = [(i, t) for i, t in lines if i.shape[1] >= 4 * t.shape[0]]
        batches.append(_collate(lines))
    model = Recognizer()
    opt = torch.optim.Adam(model.parameters(), lr=4e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=5.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
