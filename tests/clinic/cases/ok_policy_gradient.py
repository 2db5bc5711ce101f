import torch
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "nothing to fix: the loss of REINFORCE does not measure success"


def make():
    torch.manual_seed(31)
    w = torch.randn(6, 3)
    batches = []
    for _ in range(80):
        x = torch.randn(64, 6)
        batches.append((x, (x @ w).argmax(1)))
    model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 3))
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)

    def loss(model, batch):
        policy = torch.distributions.Categorical(logits=model(batch[0]))
        action = policy.sample()
        reward = (action == batch[1]).float()
        return (
            -(policy.log_prob(action) * (reward - reward.mean())).mean()
            - 0.01 * policy.entropy().mean()
        )

    return dict(model=model, loss=loss, optimizer=opt, batches=batches)


make_fixed = make
