import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test: frozen weights in bfloat16, adapters in float32"
FIX = "nothing to fix"


class Adapted(nn.Module):
    def __init__(self, inside, out):
        super().__init__()
        self.base = nn.Linear(inside, out).to(torch.bfloat16).requires_grad_(False)
        self.down = nn.Linear(inside, 4, bias=False)
        self.up = nn.Linear(4, out, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.base(x.to(torch.bfloat16)).float() + 2 * self.up(self.down(x))


def make():
    torch.manual_seed(546)
    protos = torch.randn(6, 24)
    batches = []
    for _ in range(80):
        y = torch.randint(0, 6, (32,))
        batches.append((protos[y] + 0.5 * torch.randn(32, 24), y))
    model = nn.Sequential(Adapted(24, 64), nn.ReLU(), Adapted(64, 6))
    trained = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(trained, lr=5e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


make_fixed = make
