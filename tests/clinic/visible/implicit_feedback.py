"""A recommender applies a sigmoid to its score before a loss that applies the sigmoid
itself. The loss cannot fall below the value of a score of zero, and the score settles
on the flat end of the sigmoid."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "saturated_activation"
ALSO_OK = {"objective_out_of_reach", "vanishing"}
SOURCE = "https://github.com/yudi-mars/daisyRec/pull/15"
FIX = "remove the sigmoid, as binary_cross_entropy_with_logits has its own"

USERS, ITEMS, WIDTH = 120, 80, 16


class NeuMF(nn.Module):
    def __init__(self, squash):
        super().__init__()
        self.squash = squash
        self.user = nn.Embedding(USERS, WIDTH)
        self.item = nn.Embedding(ITEMS, WIDTH)
        self.user_mlp = nn.Embedding(USERS, WIDTH)
        self.item_mlp = nn.Embedding(ITEMS, WIDTH)
        for table in (self.user, self.item, self.user_mlp, self.item_mlp):
            nn.init.normal_(table.weight, std=0.1)
        self.mlp = nn.Sequential(
            nn.Linear(2 * WIDTH, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU()
        )
        self.predict = nn.Linear(WIDTH + 16, 1)

    def forward(self, pair):
        u, i = pair[:, 0], pair[:, 1]
        product = self.user(u) * self.item(i)
        deep = self.mlp(torch.cat([self.user_mlp(u), self.item_mlp(i)], 1))
        score = self.predict(torch.cat([product, deep], 1)).squeeze(1)
        return torch.sigmoid(score) if self.squash else score


def _build(squash):
    torch.manual_seed(15)
    taste = torch.randn(USERS, 2) @ torch.randn(2, ITEMS) + torch.randn(ITEMS)
    liked = taste > taste.flatten().quantile(0.8)
    batches = []
    for _ in range(150):
        users = torch.randint(0, USERS, (512,))
        items = torch.randint(0, ITEMS, (512,))
        batches.append((torch.stack([users, items], 1), liked[users, items].float()))
    model = NeuMF(squash)
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(
        model=model,
        loss_fn=F.binary_cross_entropy_with_logits,
        optimizer=opt,
        batches=batches,
    )


def make():
    return _build(True)


def make_fixed():
    return _build(False)
