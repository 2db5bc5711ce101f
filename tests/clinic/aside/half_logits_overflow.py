import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "fp16_overflow"
ALSO_OK = set()
SOURCE = "https://github.com/openvla/openvla/issues/30"
FIX = "bfloat16 instead of float16"


class Net(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype
        self.inp, self.mid, self.out = (
            nn.Linear(12, 64),
            nn.Linear(64, 64),
            nn.Linear(64, 4),
        )

    def forward(self, x):
        h = torch.relu(self.inp(x)).to(self.dtype) * 300
        h = F.linear(h, self.mid.weight.to(self.dtype), self.mid.bias.to(self.dtype))
        energy = (h * h).sum(-1, keepdim=True)
        return self.out((h / torch.sqrt(energy + 1)).float())


def _build(good):
    torch.manual_seed(117)
    protos = torch.randn(4, 12)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 4, (32,))
        batches.append((protos[y] + 0.5 * torch.randn(32, 12), y))
    model = Net(torch.bfloat16 if good else torch.float16)
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
