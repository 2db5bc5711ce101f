import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "healthy"
ALSO_OK = set()
SOURCE = "written for this test, after common reports"
FIX = "nothing: the rate still climbs"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(16, 32)
        layer = nn.TransformerEncoderLayer(
            32, 2, 64, dropout=0.1, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 16)

    def forward(self, tokens):
        return self.head(self.body(self.words(tokens))).flatten(0, 1)


def _build():
    torch.manual_seed(122)
    following = torch.randperm(16)
    batches = []
    for _ in range(60):
        x = torch.randint(0, 16, (16, 8))
        batches.append((x, following[x].flatten()))
    model = Net()
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
    warmup = torch.optim.lr_scheduler.LambdaLR(opt, lambda t: min(1, (t + 1) / 400))
    return dict(
        model=model,
        optimizer=opt,
        batches=batches,
        scheduler=warmup.step,
        clip=1.0,
        loss_fn=F.cross_entropy,
    )


def make():
    return _build()


make_fixed = make
