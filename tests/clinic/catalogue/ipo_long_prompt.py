"""Preference tuning with the IPO loss, which divides the log-probability of an answer
by its number of tokens. A prompt as long as the limit leaves no answer after
truncation: zero by zero, and the loss is nan from there on."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_masked"
ALSO_OK = {"loss_numerics", "bad_data"}
SOURCE = "https://github.com/huggingface/trl/issues/1033"
FIX = "divide by at least one token"

WORDS, LIMIT, WIDTH, BETA, IGNORE = 20, 16, 32, 0.5, -100


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(WORDS, WIDTH)
        self.pos = nn.Parameter(torch.randn(LIMIT, WIDTH) * 0.1)
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 64, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, WORDS)
        self.register_buffer(
            "ahead", torch.triu(torch.ones(LIMIT, LIMIT, dtype=torch.bool), 1)
        )

    def forward(self, ids):
        return self.head(self.blocks(self.tok(ids) + self.pos, mask=self.ahead))


def batch_logps(logits, labels, least):
    logits, labels = logits[:, :-1], labels[:, 1:]
    loss_mask = labels != IGNORE
    labels = labels.masked_fill(~loss_mask, 0)
    logps = logits.log_softmax(-1).gather(2, labels.unsqueeze(2)).squeeze(2)
    return (logps * loss_mask).sum(-1) / loss_mask.sum(-1).clamp(min=least)


def pair(prompt, answers):
    rows, labels = [], []
    for answer in answers:
        ids = torch.cat([prompt, answer])[:LIMIT]
        target = ids.clone()
        target[: len(prompt)] = IGNORE
        fill = LIMIT - len(ids)
        rows.append(F.pad(ids, (0, fill)))
        labels.append(F.pad(target, (0, fill), value=IGNORE))
    return rows, labels


def _build(good):
    torch.manual_seed(513)
    answer_of = torch.randperm(WORDS)
    batches = []
    for _ in range(100):
        rows, labels = [], []
        for _ in range(16):
            n = 18 if torch.rand(()) < 0.01 else int(torch.randint(3, 11, (1,)))
            prompt = torch.randint(WORDS, (n,))
            chosen = [answer_of[prompt[-1]]]
            for _ in range(3):
                chosen.append(answer_of[chosen[-1]])
            a, b = pair(prompt, [torch.stack(chosen), torch.randint(WORDS, (4,))])
            rows.append(a)
            labels.append(b)
        rows, labels = zip(*rows, strict=False), zip(*labels, strict=False)
        batches.append(
            (
                torch.cat([torch.stack(r) for r in rows]),
                torch.cat([torch.stack(t) for t in labels]),
            )
        )
    model = Policy()
    reference = copy.deepcopy(model).requires_grad_(False)
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    least = 1 if good else 0

    def loss(model, batch):
        ids, labels = batch
        chosen, rejected = batch_logps(model(ids), labels, least).chunk(2)
        with torch.no_grad():
            ref_chosen, ref_rejected = batch_logps(reference(ids), labels, least).chunk(
                2
            )
        logits = (chosen - rejected) - (ref_chosen - ref_rejected)
        return ((logits - 1 / (2 * BETA)) ** 2).mean()

    return dict(model=model, loss=loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
