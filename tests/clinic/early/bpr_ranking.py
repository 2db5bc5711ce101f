"""A ranking loss for recommendations spells its sigmoid out as one over one plus an
exponential. After some dozens of steps a badly ranked pair overflows the exponential;
its gradient is NaN and so is all after it."""

import torch
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = set()
SOURCE = "https://github.com/maciejkula/triplet_recommendations_keras/issues/1"
FIX = "use the built-in sigmoid"

USERS = 120
ITEMS = 80
DIM = 160


class Ranking(nn.Module):
    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(USERS, DIM)
        self.items = nn.Embedding(ITEMS, DIM)
        for table in (self.users, self.items):
            nn.init.uniform_(table.weight, -0.05, 0.05)

    def forward(self, user, liked, other):
        user = self.users(user)
        return (user * self.items(liked)).sum(1) - (user * self.items(other)).sum(1)


def _spelled(x):
    return 1 / (1 + torch.exp(-x))


def _build(sigmoid):
    torch.manual_seed(1603)
    taste = torch.randn(USERS, 4) @ torch.randn(4, ITEMS)
    taste = taste + 1.0 * torch.randn(USERS, ITEMS)
    batches = []
    for _ in range(140):
        user = torch.randint(0, USERS, (512,))
        pair = torch.randint(0, ITEMS, (2, 512))
        first, second = taste[user, pair[0]], taste[user, pair[1]]
        swap = (second > first).long()
        batches.append(
            (user, pair.gather(0, swap[None])[0], pair.gather(0, 1 - swap[None])[0])
        )

    def loss(model, batch):
        return (1 - sigmoid(model(*batch))).mean()

    model = Ranking()
    opt = torch.optim.Adam(model.parameters(), lr=0.08)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


def make():
    return _build(_spelled)


def make_fixed():
    return _build(torch.sigmoid)
