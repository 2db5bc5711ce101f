import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "loss_numerics"
ALSO_OK = {"bad_data", "unscaled_target"}
SOURCE = "https://github.com/NVIDIA-NeMo/RL/issues/1518"
FIX = "divide by the standard deviation only where it is not nearly zero"


def _advantages(rewards, good):
    """Reward minus the mean of the others in the group, over the others' deviation."""
    count = rewards.shape[1]
    total = rewards.sum(1, keepdim=True)
    mean = (total - rewards) / (count - 1)
    square = (rewards.square().sum(1, keepdim=True) - rewards.square()) / (count - 1)
    spread = (square - mean.square()).clamp_min(0).sqrt()
    if good:
        spread = torch.where(spread > 1e-3, spread, torch.ones_like(spread))
    return (rewards - mean) / (spread + 1e-6)


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 4))

    def forward(self, x):
        return self.net(x).log_softmax(-1)


def _build(good):
    torch.manual_seed(705)
    best = torch.randn(6, 4)
    model = Policy()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [torch.randn(32, 6) for _ in range(100)]

    def step(x):
        wanted = (x @ best).argmax(1)
        logp = model(x)
        actions = torch.multinomial(logp.exp().detach(), 4, replacement=True)
        rewards = (actions == wanted[:, None]).float()
        advantages = _advantages(rewards, good)
        loss = -(advantages * logp.gather(1, actions)).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return F.nll_loss(model(x), wanted).detach()

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
