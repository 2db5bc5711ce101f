import torch
from torch import nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

CAUSE = "loss_numerics"
ALSO_OK = {"bad_data"}
SOURCE = "https://github.com/philtabor/Actor-Critic-Methods-Paper-To-Code/issues/7"
FIX = "clamp actions to 1 - 1e-6 before atanh"


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 48), nn.Tanh(), nn.Linear(48, 3))
        self.log_std = nn.Parameter(torch.zeros(3))

    def forward(self, obs):
        mean = self.net(obs)
        base = Normal(mean, self.log_std.clamp(-3, 1).exp())
        return TransformedDistribution(base, [TanhTransform()], validate_args=False)


def _build(good):
    torch.manual_seed(520)
    w = torch.randn(10, 3) / 3
    batches = []
    for i in range(80):
        obs = torch.randn(64, 10)
        act = torch.tanh(obs @ w + 0.3 * torch.randn(64, 3))
        if i % 9 == 5:
            act[4] = 1.0
        if good:
            act = act.clamp(-1 + 1e-4, 1 - 1e-4)
        batches.append((obs, act))

    def loss(model, batch):
        return -model(batch[0]).log_prob(batch[1]).sum(-1).mean()

    model = Actor()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return dict(model=model, loss=loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
