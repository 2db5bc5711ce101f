import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "missing_zero_grad"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "optimizer.zero_grad() for the whole model, not only for the head"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 16)
        self.encoder = nn.Sequential(nn.Linear(16, 32), nn.ReLU())
        self.head = nn.Linear(32, 4)

    def forward(self, tokens):
        return self.head(self.encoder(self.words(tokens)).mean(1))


def _build(good):
    torch.manual_seed(111)
    likely = torch.softmax(2 * torch.randn(4, 30), 1)
    batches = []
    for _ in range(60):
        y = torch.randint(0, 4, (32,))
        batches.append((torch.multinomial(likely[y], 10, replacement=True), y))
    model = Net()
    opt = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)

    def step(batch):
        (opt if good else model.head).zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        opt.step()
        return loss.item()

    return dict(model=model, step=step, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
