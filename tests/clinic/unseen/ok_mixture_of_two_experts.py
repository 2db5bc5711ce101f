import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK: set[str] = set()
SOURCE = "written for this test: experts that are seldom chosen, a gate that learns"
FIX = ""


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(8, 6)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 3))
            for _ in range(6)
        )

    def forward(self, x):
        weights, index = self.gate(x).softmax(-1).topk(2, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        out = x.new_zeros(len(x), 3)
        for number, expert in enumerate(self.experts):
            rows, place = (index == number).nonzero(as_tuple=True)
            if len(rows):
                update = weights[rows, place][:, None] * expert(x[rows])
                out = out.index_add(0, rows, update)
        return out


def make():
    torch.manual_seed(812)
    rules = torch.randn(3, 8, 3)
    batches = []
    for _ in range(100):
        kind = torch.randint(0, 3, (64,))
        x = torch.randn(64, 8)
        x[torch.arange(64), kind] += 3
        batches.append((x, torch.einsum("bi,bij->bj", x, rules[kind]).argmax(1)))
    model = Mixture()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


make_fixed = make
