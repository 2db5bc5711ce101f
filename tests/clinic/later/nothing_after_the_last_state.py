import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "bad_data"
ALSO_OK = {"loss_numerics"}
SOURCE = "https://github.com/anthonytorlucci/rlevo/pull/358"
FIX = "torch.where(done, 0, next_value) instead of next_value * (1 - done)"


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 3))

    def forward(self, x):
        return self.net(x)


def _loss(good):
    def loss(model, batch):
        state, action, reward, following, done = batch
        if good:
            following = torch.where(done[:, None] > 0, 0.0, following)
        with torch.no_grad():
            best = model(following).amax(1)
        target = reward + 0.5 * best * (1 - done)
        value = model(state).gather(1, action[:, None]).squeeze(1)
        return F.smooth_l1_loss(value, target)

    return loss


def _build(good):
    torch.manual_seed(720)
    worth = torch.randn(5, 3)
    batches = []
    for _ in range(80):
        state, following = torch.randn(64, 5), torch.randn(64, 5)
        action = torch.randint(0, 3, (64,))
        reward = (state @ worth).gather(1, action[:, None]).squeeze(1)
        done = (torch.rand(64) < 0.05).float()
        following[done > 0] = torch.inf
        batches.append((state, action, reward, following, done))
    model = Critic()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    return dict(model=model, loss=_loss(good), optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
