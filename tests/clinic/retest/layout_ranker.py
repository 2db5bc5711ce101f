"""The columns of the nodes come as they are in the files: some are sizes in bytes up
to millions, the others small numbers. The big columns drown the rest behind the first
layer, and the ranking loss stays where it started."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "unnormalized_input"
ALSO_OK = set()
SOURCE = "https://github.com/thanhhau097/google_fast_or_slow/pull/1"
FIX = "MinMaxScaler over the columns of the features"

NODES, CONFIGS = 20, 12


class Sage(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.own, self.near = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x, adjacency):
        return F.relu(self.own(x) + self.near(adjacency @ x))


class Ranker(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(18, 48), nn.LayerNorm(48), nn.ReLU())
        self.layers = nn.ModuleList([Sage(48), Sage(48)])
        self.score = nn.Linear(48, 1)

    def forward(self, features, adjacency):
        x = self.embed(features)
        for layer in self.layers:
            x = x + layer(x, adjacency)
        return self.score(x.mean(1)).squeeze(-1)


def _list_mle(score, runtime):
    ranked = score[runtime.argsort(descending=True)]
    return (ranked.flip(0).logcumsumexp(0).flip(0) - ranked).sum()


def _loss(model, batch):
    losses = [_list_mle(model(x, a), t) for x, a, t in batch]
    return torch.stack(losses).mean()


def _build(scale):
    torch.manual_seed(4103)
    taste = torch.randn(6)
    graphs = []
    for _ in range(400):
        sizes = torch.exp(torch.rand(NODES, 4) * 14)
        kinds = torch.rand(NODES, 8)
        config = torch.randint(-1, 6, (CONFIGS, NODES, 6)).float()
        links = (torch.rand(NODES, NODES) < 0.15).float()
        adjacency = links / links.sum(1, keepdim=True).clamp(min=1)
        runtime = ((config @ taste) * (0.5 + kinds[:, 0])).mean(1)
        nodes = torch.cat([sizes, kinds], 1).expand(CONFIGS, NODES, 12)
        graphs.append((torch.cat([nodes, config], 2), adjacency, runtime))
    if scale:
        table = torch.cat([g[0].reshape(-1, 18) for g in graphs])
        low, high = table.amin(0), table.amax(0)
        graphs = [((x - low) / (high - low), a, t) for x, a, t in graphs]
    batches = []
    for _ in range(100):
        chosen = torch.randint(len(graphs), (4,))
        batches.append([graphs[i] for i in chosen])
    model = Ranker()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
