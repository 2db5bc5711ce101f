"""kl_div gets probabilities of the student where it expects their logarithm.

The loss is negative, and least where the student is sure of the teacher's favorite.
"""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"objective_out_of_reach"}
SOURCE = "https://github.com/microsoft/ProDA/issues/43"
FIX = "F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction='batchmean')"


def _build(good):
    torch.manual_seed(923)
    teacher = nn.Linear(12, 6)
    batches = []
    for _ in range(100):
        x = torch.randn(32, 12)
        batches.append((x, (2 * teacher(x)).detach()))
    student = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 6))
    opt = torch.optim.Adam(student.parameters(), lr=5e-3)

    def loss_fn(output, target):
        given = output.log_softmax(1) if good else output.softmax(1)
        return F.kl_div(given, target.softmax(1), reduction="batchmean")

    return dict(model=student, loss_fn=loss_fn, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
