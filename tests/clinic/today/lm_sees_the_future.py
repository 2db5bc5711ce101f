import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "target_leak"
ALSO_OK = set()
SOURCE = "https://github.com/huggingface/transformers/issues/48745"
FIX = "a causal mask"


class Lm(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.causal = causal
        self.table, self.place = nn.Embedding(16, 32), nn.Embedding(12, 32)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
        self.head = nn.Linear(32, 16)

    def forward(self, ids):
        length = ids.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        h = self.table(ids) + self.place.weight[:length]
        return self.head(self.block(h, src_mask=mask if self.causal else None))


def _build(good):
    torch.manual_seed(502)
    following = torch.stack([torch.randperm(16)[:2] for _ in range(16)])
    batches = []
    for _ in range(80):
        ids = [torch.randint(0, 16, (16,))]
        for _ in range(12):
            ids.append(following[ids[-1], torch.randint(0, 2, (16,))])
        ids = torch.stack(ids, 1)
        batches.append((ids[:, :-1], ids[:, 1:]))
    model = Lm(good)
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return dict(
        model=model,
        loss_fn=lambda out, y: F.cross_entropy(out.transpose(1, 2), y),
        optimizer=opt,
        batches=batches,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
