"""A student is distilled from a teacher whose answers are set against the student's
answers one position later. The loss stays high, since each position is asked for two
different words."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK = {"loss_terms_unbalanced"}
SOURCE = "https://github.com/DeepOpt-com/WrinkleFree-Monorepo/issues/13"
FIX = "take the student's logits at the same positions as the teacher's"

VOCAB = 32
LENGTH = 24
LAMBDA_TCS = 10.0
TEMPERATURE = 5.0


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(VOCAB, VOCAB)
        nn.init.normal_(self.table.weight, std=3.0)
        self.requires_grad_(False)

    def forward(self, ids):
        return self.table(ids)


class Student(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, width)
        self.places = nn.Embedding(LENGTH + 1, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCAB, bias=False)
        nn.init.normal_(self.tokens.weight, std=0.3)
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, ids):
        t = ids.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(t)
        x = self.tokens(ids) + self.places(torch.arange(t))
        for layer in self.layers:
            x = layer(x, src_mask=mask)
        return self.head(self.norm(x))


def _build(first):
    torch.manual_seed(5388)
    teacher = Teacher()
    batches = []
    for _ in range(120):
        now = torch.randint(VOCAB, (16,))
        words = [now]
        for _ in range(LENGTH):
            now = torch.multinomial(teacher(now).softmax(-1), 1).squeeze(1)
            words.append(now)
        batches.append(torch.stack(words, 1))
    student = Student()
    opt = torch.optim.AdamW(student.parameters(), lr=3e-3)

    def loss(model, ids):
        student_logits = model(ids)
        with torch.no_grad():
            teacher_logits = teacher(ids)
        ce = F.cross_entropy(
            student_logits[:, :-1].reshape(-1, VOCAB), ids[:, 1:].reshape(-1)
        )
        aligned_teacher = teacher_logits[:, :-1]
        aligned_student = student_logits[:, first : first + LENGTH]
        tcs = F.kl_div(
            F.log_softmax(aligned_student / TEMPERATURE, -1).reshape(-1, VOCAB),
            F.softmax(aligned_teacher / TEMPERATURE, -1).reshape(-1, VOCAB),
            reduction="batchmean",
        )
        return ce + LAMBDA_TCS * TEMPERATURE**2 * tcs

    return dict(model=student, loss=loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(1)


def make_fixed():
    return _build(0)
