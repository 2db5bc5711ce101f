import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "detached_graph"
ALSO_OK = {"wrong_axis", "vanishing"}
SOURCE = "https://github.com/jingyaogong/minimind/issues/858"
FIX = "with one expert per token, do not divide its weight by the sum of the weights"


class Mixture(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.gate = nn.Linear(8, 4, bias=False)
        self.experts = nn.ModuleList(nn.Linear(8, 5) for _ in range(4))

    def forward(self, x):
        scores = self.gate(x).softmax(-1)
        weight, index = scores.topk(1, dim=-1)
        if not self.good:
            weight = weight / (weight.sum(-1, keepdim=True) + 1e-20)
        every = torch.stack([expert(x) for expert in self.experts], 1)
        chosen = every.gather(1, index[:, :, None].expand(-1, -1, 5)).squeeze(1)
        return weight * chosen


def _build(good):
    torch.manual_seed(704)
    kinds = 3 * torch.randn(4, 8)
    rules = 2 * torch.randn(4, 8, 5)
    batches = []
    for _ in range(100):
        kind = torch.randint(0, 4, (64,))
        x = kinds[kind] + torch.randn(64, 8)
        y = torch.einsum("bi,bij->bj", x - kinds[kind], rules[kind]).argmax(1)
        batches.append((x, y))
    model = Mixture(good)
    opt = torch.optim.Adam(model.parameters(), lr=3e-2)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
