"""Self-distillation without labels: the backbone of the teacher is assigned from that
of the student, so both are the same object and the teacher moves at once with the
student. All images get the same output, and the loss goes to the log of the output
size."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "representation_collapse"
ALSO_OK = set()
SOURCE = "https://github.com/facebookresearch/dinov2/issues/407"
FIX = "give the teacher a deep copy of the backbone, moved only by the average"

WIDTH, PATCHES, PATCH, OUT = 32, 4, 8, 256


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(PATCH, WIDTH)
        self.place = nn.Parameter(torch.randn(PATCHES + 1, WIDTH) * 0.02)
        self.cls = nn.Parameter(torch.zeros(1, 1, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 64, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x):
        x = torch.cat([self.cls.expand(len(x), -1, -1), self.embed(x)], 1) + self.place
        return self.norm(self.blocks(x))[:, 0]


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, 64))
        self.last = nn.Parameter(F.normalize(torch.randn(OUT, 64), dim=1))

    def forward(self, x):
        return F.normalize(self.mlp(x), dim=1) @ F.normalize(self.last, dim=1).T


class DINO(nn.Module):
    def __init__(self, encoder, own):
        super().__init__()
        self.student_backbone = encoder
        self.teacher_backbone = copy.deepcopy(encoder) if own else encoder
        self.student_head = Head()
        self.teacher_head = copy.deepcopy(self.student_head)
        self.register_buffer("center", torch.zeros(1, OUT))

    @torch.no_grad()
    def update_teacher(self, m=0.98):
        for student, teacher in [
            (self.student_backbone, self.teacher_backbone),
            (self.student_head, self.teacher_head),
        ]:
            for p, q in zip(student.parameters(), teacher.parameters(), strict=False):
                q.data.mul_(m).add_(p.data, alpha=1 - m)


def dino_loss(model, batch, student_temp=0.1, teacher_temp=0.04):
    model.update_teacher()
    views = batch
    student = (
        model.student_head(model.student_backbone(torch.cat(views))) / student_temp
    )
    student = student.chunk(len(views))
    with torch.no_grad():
        raw = model.teacher_head(model.teacher_backbone(torch.cat(views)))
        teacher = torch.softmax((raw - model.center) / teacher_temp, dim=1).chunk(
            len(views)
        )
        model.center.mul_(0.9).add_(raw.mean(0, keepdim=True), alpha=0.1)
    loss = 0
    for i, t in enumerate(teacher):
        for j, s in enumerate(student):
            if i != j:
                loss = loss - (t * F.log_softmax(s, dim=1)).sum(1).mean()
    return loss / (len(views) * (len(views) - 1))


def _build(good):
    torch.manual_seed(289)
    kinds = torch.randn(16, PATCHES, PATCH)
    batches = []
    for _ in range(120):
        images = kinds[torch.randint(16, (48,))]
        batches.append([images + 0.7 * torch.randn_like(images) for _ in range(2)])
    model = DINO(ViT(), own=good)
    params = [*model.student_backbone.parameters(), *model.student_head.parameters()]
    opt = torch.optim.AdamW(params, lr=8e-3, weight_decay=0.04)
    return dict(model=model, loss=dino_loss, optimizer=opt, batches=batches, clip=3.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
