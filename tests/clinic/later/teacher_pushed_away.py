import copy

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "objective_out_of_reach"
ALSO_OK = {"unscaled_target", "representation_collapse", "unknown"}
SOURCE = "https://github.com/ostris/ai-toolkit/issues/1034"
FIX = "teacher.sub_((1 - decay) * (teacher - student)), not add_"
DECAY = 0.9


def _build(good):
    torch.manual_seed(721)
    student = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4))
    teacher = copy.deepcopy(student)
    rule = torch.randn(8, 4) / 2
    opt = torch.optim.Adam(student.parameters(), lr=1e-2)
    batches = []
    for _ in range(100):
        x = torch.randn(32, 8)
        batches.append((x, torch.tanh(x @ rule)))

    def step(batch):
        x, y = batch
        with torch.no_grad():
            taught = teacher(x + 0.1 * torch.randn_like(x))
        out = student(x)
        loss = F.mse_loss(out, y) + F.mse_loss(out, taught)
        opt.zero_grad()
        loss.backward()
        opt.step()
        with torch.no_grad():
            pairs = zip(teacher.parameters(), student.parameters(), strict=True)
            for slow, fast in pairs:
                gap = (1 - DECAY) * (slow - fast)
                slow.sub_(gap) if good else slow.add_(gap)
        return loss.item()

    return dict(model=student, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
