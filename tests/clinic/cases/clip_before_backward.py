import torch
from torch import nn

CAUSE = "clip_misplaced"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "clip between backward and step"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def _build(good):
    torch.manual_seed(115)
    batches = []
    for i in range(60):
        x = torch.randn(16, 10, 4)
        y = x[:, -2:].sum((1, 2))[:, None]
        if i % 9 == 5:
            y = 60 * y
        batches.append((x, y))
    model = Net()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(batch):
        opt.zero_grad(set_to_none=False)
        loss = (model(batch[0]) - batch[1]).pow(2).mean()
        if not good:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        loss.backward()
        if good:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        return loss.item()

    return dict(
        model=model, step=step, optimizer=opt, batches=batches, clip=1.0, scheduler=None
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
