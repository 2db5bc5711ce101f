import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_misaligned"
ALSO_OK = set()
SOURCE = "https://github.com/huggingface/transformers/pull/44642"
FIX = "labels = input_ids: the model shifts them itself"


class Lm(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.rnn = nn.Embedding(20, 32), nn.GRU(32, 48, batch_first=True)
        self.head = nn.Linear(48, 20)

    def forward(self, input_ids, labels):
        logits = self.head(self.rnn(self.table(input_ids))[0])
        loss = F.cross_entropy(
            logits[:, :-1].reshape(-1, 20), labels[:, 1:].reshape(-1)
        )
        return {"loss": loss, "logits": logits}


def _build(good):
    torch.manual_seed(501)
    following = torch.stack([torch.randperm(20)[:3] for _ in range(20)])
    batches = []
    for _ in range(80):
        ids = [torch.randint(0, 20, (16,))]
        for _ in range(12):
            ids.append(following[ids[-1], torch.randint(0, 3, (16,))])
        ids = torch.stack(ids, 1)
        labels = ids[:, :-1] if good else ids[:, 1:]
        batches.append({"input_ids": ids[:, :-1], "labels": labels})
    model = Lm()
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    return dict(
        model=model,
        loss=lambda m, b: m(**b)["loss"],
        optimizer=opt,
        batches=batches,
        clip=1.0,
    )


def make():
    return _build(False)


def make_fixed():
    return _build(True)
