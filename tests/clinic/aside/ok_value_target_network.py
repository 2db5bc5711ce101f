import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "nothing to fix: the loss of Q-learning chases its own target"


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 3))
        self.target = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 3))
        self.target.load_state_dict(self.q.state_dict())


def make():
    torch.manual_seed(124)
    v = torch.randn(6, 3) / 2
    batches = []
    for _ in range(80):
        s, a = torch.randn(64, 6), torch.randint(0, 3, (64,))
        batches.append((s, a, (s @ v).gather(1, a[:, None])[:, 0], torch.randn(64, 6)))
    model = Agent()
    opt = torch.optim.Adam(model.q.parameters(), lr=2e-3)
    count = [0]

    def step(batch):
        s, a, r, nxt = batch
        with torch.no_grad():
            goal = r + 0.95 * model.target(nxt).max(1).values
        loss = F.smooth_l1_loss(model.q(s).gather(1, a[:, None])[:, 0], goal)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.q.parameters(), 10.0)
        opt.step()
        count[0] += 1
        if count[0] % 20 == 0:
            model.target.load_state_dict(model.q.state_dict())
        return loss

    return dict(model=model, step=step, optimizer=opt, batches=batches, clip=10.0)


make_fixed = make
