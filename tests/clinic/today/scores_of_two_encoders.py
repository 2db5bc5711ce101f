import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "attention_logits_grow"
ALSO_OK = {"lr_too_high", "warmup_missing", "init_too_large", "saturated_activation"}
SOURCE = "https://github.com/lucidrains/x-transformers/issues/190 (same kind)"
FIX = "normalize queries and keys"


class Reader(nn.Module):
    def __init__(self, normed):
        super().__init__()
        self.normed = normed
        self.table = nn.Embedding(16, 32)
        self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))
        self.head = nn.Linear(32, 16)
        with torch.no_grad():
            for layer in (self.q, self.k):
                layer.weight.mul_(14.0)

    def forward(self, ids):
        h = self.table(ids)
        q, k = self.q(h), self.k(h)
        if self.normed:
            q, k = F.layer_norm(q, (32,)), F.layer_norm(k, (32,))
        h = h + F.scaled_dot_product_attention(q, k, self.v(h))
        return self.head(h[:, -1])


def _build(good):
    torch.manual_seed(519)
    batches = []
    for _ in range(100):
        ids = torch.randint(0, 16, (64, 9))
        place = (ids[:, -1] % 8)[:, None]
        batches.append((ids, ids.gather(1, place).squeeze(1)))
        ids[:, :8] = torch.arange(8) + 8 * torch.randint(0, 2, (64, 8))
        batches[-1] = (ids, ids.gather(1, place).squeeze(1))
    model = Reader(good)
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    return dict(model=model, loss_fn=F.cross_entropy, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
