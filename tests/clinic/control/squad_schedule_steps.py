"""The linear schedule of a BERT for question answering is told of far fewer updates
than are made, so its rate is soon zero. From then on nothing is learned."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "learning_rate_zero"
ALSO_OK = {"optimizer_misconfigured"}
SOURCE = "https://github.com/determined-ai/determined/pull/711"
FIX = "give the schedule the number of optimizer steps that the run really makes"

VOCAB, LENGTH, UPDATES = 40, 14, 120


class BertForQuestionAnswering(nn.Module):
    def __init__(self, width=40):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, width)
        self.place = nn.Embedding(LENGTH, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.qa_outputs = nn.Linear(width, 2)

    def forward(self, ids):
        x = self.encoder(self.embed(ids) + self.place.weight)
        return self.qa_outputs(x).unbind(dim=-1)


def _loss(model, batch):
    ids, start, end = batch
    start_logits, end_logits = model(ids)
    return (F.cross_entropy(start_logits, start) + F.cross_entropy(end_logits, end)) / 2


def linear_schedule(optimizer, num_warmup_steps, num_training_steps):
    def factor(step):
        if step < num_warmup_steps:
            return step / max(1, num_warmup_steps)
        left = num_training_steps - step
        return max(0.0, left / max(1, num_training_steps - num_warmup_steps))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _build(good):
    torch.manual_seed(4112)
    batches = []
    for _ in range(UPDATES):
        ids = torch.randint(9, VOCAB, (32, LENGTH))
        start = torch.randint(0, LENGTH - 3, (32,))
        end = start + torch.randint(1, 4, (32,))
        rows = torch.arange(32)
        ids[rows, start] = torch.randint(1, 5, (32,))
        ids[rows, end] = torch.randint(5, 9, (32,))
        batches.append((ids, start, end))
    model = BertForQuestionAnswering()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    steps = UPDATES if good else 6
    schedule = linear_schedule(opt, num_warmup_steps=0, num_training_steps=steps)
    return dict(
        model=model,
        loss=_loss,
        optimizer=opt,
        batches=batches,
        clip=1.0,
        scheduler=schedule.step,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
