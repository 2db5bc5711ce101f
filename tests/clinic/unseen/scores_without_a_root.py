import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "attention_logits_grow"
ALSO_OK = {"init_too_large", "saturated_activation", "lr_too_high"}
SOURCE = "https://github.com/PAIR-code/tiny-transformers/issues/71"
FIX = "q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])"


class Reader(nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good = good
        self.token = nn.Embedding(12, 256)
        self.place = nn.Parameter(torch.randn(9, 256))
        self.q, self.k, self.v = (nn.Linear(256, 256) for _ in range(3))
        for layer in (self.q, self.k):
            nn.init.xavier_normal_(layer.weight)
        self.head = nn.Linear(256, 12)

    def forward(self, ids):
        h = self.token(ids) + self.place
        scores = self.q(h) @ self.k(h).transpose(-2, -1)
        if self.good:
            scores = scores / scores.new_tensor(256.0).sqrt()
        h = h + scores.softmax(-1) @ self.v(h)
        return self.head(h[:, -1])


def _build(good):
    torch.manual_seed(802)
    batches = []
    for _ in range(100):
        ids = torch.randint(0, 12, (32, 9))
        place = ids[:, -1] % 8
        batches.append((ids, ids.gather(1, place[:, None]).squeeze(1)))
    model = Reader(good)
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
