import torch
from torch import nn
from torch.nn.functional import cross_entropy

CAUSE = "deep_no_skip_or_norm"
ALSO_OK = {"vanishing"}
SOURCE = "written for this test, after common reports"
FIX = "residual connections and layer norm around attention and MLP"


class Block(nn.Module):
    def __init__(self, width, good):
        super().__init__()
        self.good = good
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.norm1 = nn.LayerNorm(width) if good else nn.Identity()
        self.norm2 = nn.LayerNorm(width) if good else nn.Identity()

    def forward(self, x):
        h = self.norm1(x)
        h = self.attention(h, h, h, need_weights=False)[0]
        x = x + h if self.good else h
        h = self.mlp(self.norm2(x))
        return x + h if self.good else h


class Net(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.words = nn.Embedding(20, 24)
        self.blocks = nn.Sequential(*(Block(24, good) for _ in range(8)))
        self.head = nn.Linear(24, 20)

    def forward(self, tokens):
        return self.head(self.blocks(self.words(tokens))).flatten(0, 1)


def _build(good):
    torch.manual_seed(113)
    following = torch.randperm(20)
    batches = []
    for _ in range(60):
        x = torch.randint(0, 20, (16, 8))
        batches.append((x, following[x].flatten()))
    model = Net(good)
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    return dict(
        model=model, loss_fn=cross_entropy, optimizer=opt, batches=batches, clip=1.0
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
