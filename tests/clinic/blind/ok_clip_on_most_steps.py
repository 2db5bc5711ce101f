import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "a language model whose clip trips often and learns"
FIX = "nothing to fix"


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.rnn, self.out = (
            nn.Embedding(20, 24),
            nn.RNN(24, 48, batch_first=True),
            nn.Linear(48, 20),
        )

    def forward(self, x):
        return self.out(self.rnn(self.emb(x))[0])


def make():
    torch.manual_seed(135)
    step = torch.randperm(20)
    batches = []
    for _ in range(100):
        x = torch.randint(0, 20, (32, 16))
        batches.append((x, step[x]))
    model = LM()
    opt = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    return dict(
        model=model,
        loss_fn=lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten()),
        optimizer=opt,
        batches=batches,
        clip=0.25,
        scheduler=None,
    )


make_fixed = make
