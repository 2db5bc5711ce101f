import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "optimizer_misconfigured"
ALSO_OK = {"frozen_parameters"}
SOURCE = "https://github.com/unslothai/unsloth/pull/3711"
FIX = "tie the head to the embedding again, before the optimizer is built"


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(24, 24)
        nn.init.normal_(self.embed.weight, std=0.2)
        self.mix = nn.GRU(24, 24, batch_first=True)
        self.head = nn.Linear(24, 24, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.mix(self.embed(ids))[0])


def _loss(model, ids):
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _build(good):
    torch.manual_seed(711)
    chances = (3 * torch.randn(24, 24)).softmax(1)
    batches = []
    for _ in range(100):
        ids = torch.randint(0, 24, (32, 13))
        for t in range(1, 13):
            ids[:, t] = torch.multinomial(chances[ids[:, t - 1]], 1).squeeze(1)
        batches.append(ids)
    model = Model()
    opt = torch.optim.AdamW(model.parameters(), lr=1e-2)
    if not good:
        copied = nn.Embedding.from_pretrained(model.embed.weight.detach().clone())
        copied.weight.requires_grad_(True)
        model.embed = copied
        model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
