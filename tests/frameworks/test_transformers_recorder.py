"""The black box of the real Trainer of transformers, with a tiny random model."""

import math

import pytest
import torch
from torch.utils.data import Dataset
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from gradlib import replay
from gradlib.integrations.transformers import RecorderCallback

DEATH = 137
BATCH = 2


class Tokens(Dataset):
    def __len__(self):
        return 4 * BATCH * DEATH

    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(index)
        ids = torch.randint(0, 32, (8,), generator=draw)
        return {"input_ids": ids, "labels": ids}


def model():
    """With dropout, as GPT-2 has it."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=32, n_positions=8, n_embd=16, n_layer=2, n_head=2)
    )


class Keeps(TrainerCallback):
    """Keeps the weights with which the fatal step begins."""

    def __init__(self):
        self.weights = {}

    def on_step_end(self, args, state, control, model, **training):
        if state.global_step == DEATH:
            named = model.state_dict().items()
            self.weights = {name: t.detach().clone() for name, t in named}


class Poisoned(Trainer):
    """Gives one batch, at step 137, inputs that are NaN."""

    def compute_loss(self, model, inputs, **others):
        if self.state.global_step == DEATH:
            ids = inputs.pop("input_ids")
            embedded = model.get_input_embeddings()(ids).detach()
            embedded[1, 3] = math.nan
            inputs = {"inputs_embeds": embedded, **inputs}
        return super().compute_loss(model, inputs, **others)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"bf16": True},
        {"lr_scheduler_type": "cosine", "warmup_steps": 20},
    ],
    ids=lambda a: " ".join(a) or "plain",
)
def test_a_nan_at_step_137_is_replayed_bit_for_bit(tmp_path, arguments):
    path = tmp_path / "black_box.pt"
    callback, kept = RecorderCallback(path=path), Keeps()
    settings = TrainingArguments(
        output_dir=str(tmp_path), max_steps=DEATH + 3, max_grad_norm=0.5,
        per_device_train_batch_size=BATCH, report_to=[], use_cpu=True,
        learning_rate=1e-2, save_strategy="no", disable_tqdm=True, **arguments,
    )  # fmt: skip
    training = Poisoned(
        model(), settings, train_dataset=Tokens(), callbacks=[callback, kept]
    )
    with pytest.warns(UserWarning, match=f"step {DEATH}: loss is nan"):
        training.train()
    assert not callback.recorder.is_open
    assert not training.model._forward_pre_hooks

    other = model()
    found = replay(path, other, seconds=None)
    assert (found.step, found.differs_at) == (DEATH, None)
    assert len(found.losses) == DEATH - 100 + 1
    assert found.born.kind == "nan"
    assert found.born.where == "input"
    state = other.state_dict()
    assert kept.weights
    for name, weight in kept.weights.items():
        assert torch.equal(state[name], weight), name


def test_the_report_names_the_cause(tmp_path):
    path = tmp_path / "black_box.pt"
    settings = TrainingArguments(
        output_dir=str(tmp_path), max_steps=DEATH + 1, report_to=[], use_cpu=True,
        per_device_train_batch_size=BATCH, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    callback = RecorderCallback(path=path)
    training = Poisoned(model(), settings, train_dataset=Tokens(), callbacks=[callback])
    with pytest.warns(UserWarning, match=f"step {DEATH}"):
        training.train()
    assert replay(path, model()).report.verdict == "broken"
