import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "nothing: sparse gradients of a recommender"


class Recommender(nn.Module):
    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(200, 8, sparse=True)
        self.items = nn.Embedding(100, 8, sparse=True)
        nn.init.normal_(self.users.weight, std=0.3)
        nn.init.normal_(self.items.weight, std=0.3)

    def forward(self, pair):
        user, item = pair
        return (self.users(user) * self.items(item)).sum(1)


def _build():
    torch.manual_seed(123)
    taste, kind = torch.randn(200, 3), torch.randn(100, 3)
    batches = []
    for _ in range(60):
        user, item = torch.randint(0, 200, (256,)), torch.randint(0, 100, (256,))
        batches.append(((user, item), ((taste[user] * kind[item]).sum(1) > 0).float()))
    model = Recommender()
    opt = torch.optim.SparseAdam(list(model.parameters()), lr=0.03)
    return dict(
        model=model,
        optimizer=opt,
        batches=batches,
        loss_fn=F.binary_cross_entropy_with_logits,
    )


def make():
    return _build()


make_fixed = make
