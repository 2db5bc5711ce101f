"""Long documents are cut at the maximum length, and of some nothing but the masked
prompt is left. Where a batch consists of such documents, its loss is not a number."""

import torch
import torch.nn.functional as F
from torch import nn

CAUSE = "labels_masked"
ALSO_OK = {"loss_numerics", "bad_data"}
SOURCE = "https://github.com/hpcaitech/ColossalAI/issues/5370"
FIX = "leave out the documents of which no answer is left after the cut"

VOCAB, WIDTH, MAX_LENGTH, IGNORE = 24, 48, 32, -100


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x):
        b, t, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, 4, WIDTH // 4)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, WIDTH))
        return x + self.mlp(self.norm2(x))


class CausalLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.pos = nn.Embedding(MAX_LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB)

    def forward(self, ids):
        x = self.embed(ids) + self.pos.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def _loss(model, batch):
    logits = model(batch["input_ids"])[:, :-1]
    labels = batch["labels"][:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)


def _document(step):
    prompt = torch.randint(VOCAB, (int(torch.randint(6, 46, ())),))
    answer = [prompt[-1]]
    for _ in range(20):
        answer.append(step[answer[-1]][torch.randint(2, ())])
    answer = torch.stack(answer[1:])
    ids = torch.cat([prompt, answer])
    labels = torch.cat([torch.full_like(prompt, IGNORE), answer])
    return ids[:MAX_LENGTH], labels[:MAX_LENGTH]


def _collate(rows):
    ids = torch.zeros(len(rows), MAX_LENGTH, dtype=torch.long)
    labels = torch.full((len(rows), MAX_LENGTH), IGNORE)
    for i, (a, b) in enumerate(rows):
        ids[i, : len(a)] = a
        labels[i, : len(b)] = b
    return {"input_ids": ids, "labels": labels}


def _build(skip):
    torch.manual_seed(5370)
    step = torch.stack([torch.randperm(VOCAB), torch.randperm(VOCAB)], 1)
    batches = []
    while len(batches) < 120:
        rows = []
        while len(rows) < 3:
            row = _document(step)
            if skip and (row[1] == IGNORE).all():
                continue
            rows.append(row)
        batches.append(_collate(rows))
    model = CausalLM()
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    return dict(model=model, loss=_loss, optimizer=opt, batches=batches, clip=1.0)


def make():
    return _build(False)


def make_fixed():
    return _build(True)
