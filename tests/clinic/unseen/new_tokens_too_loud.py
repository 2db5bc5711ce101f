import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "init_too_large"
ALSO_OK: set[str] = set()
SOURCE = "https://github.com/huggingface/transformers/issues/29219"
FIX = "set the new rows to the mean of the old ones"


class Writer(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(32, 48)
        nn.init.normal_(self.token.weight, std=0.1)
        self.cell = nn.GRU(48, 48, batch_first=True)

    def forward(self, ids):
        h = self.cell(self.token(ids))[0]
        return h @ self.token.weight.T


def _loss(model, ids):
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _build(good):
    torch.manual_seed(803)
    chances = (2 * torch.randn(32, 32)).softmax(1)
    batches = []
    for _ in range(100):
        ids = torch.randint(0, 32, (16, 13))
        for t in range(1, 13):
            ids[:, t] = torch.multinomial(chances[ids[:, t - 1]], 1).squeeze(1)
        batches.append(ids)
    model = Writer()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    for ids in batches[:60]:
        opt.zero_grad()
        _loss(model, ids).backward()
        opt.step()
    old = model.token.weight.detach()
    mean = old.mean(0, keepdim=True).expand(32, -1)
    new = mean + 1e-3 * torch.randn(32, 48) if good else 20 * torch.randn(32, 48)
    model.token = nn.Embedding.from_pretrained(torch.cat([old, new]), freeze=False)
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
