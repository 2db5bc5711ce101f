"""The callbacks under the real Trainer of transformers, and attention of its models."""

import gc
import math

import pytest
import torch
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from gradlib import attention_logits, audit, diagnose, lr_range_test, replay
from gradlib.history import History
from gradlib.integrations.transformers import RecorderCallback, WatchCallback

CLIP = 0.5
DEATH = 137


class Tokens(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(index)
        ids = torch.randint(0, 32, (8,), generator=draw)
        return {"input_ids": ids, "labels": ids}


def model():
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=32, n_positions=8, n_embd=16, n_layer=2, n_head=2)
    )


def settings_of(folder, **arguments):
    return TrainingArguments(
        output_dir=str(folder), max_steps=6, per_device_train_batch_size=4,
        logging_steps=1, report_to=[], use_cpu=True, max_grad_norm=CLIP,
        learning_rate=1e-2, save_strategy="no", disable_tqdm=True, **arguments,
    )  # fmt: skip


def trainer(folder, callback, **arguments):
    settings = settings_of(folder, **arguments)
    callbacks = [callback]
    return Trainer(model(), settings, train_dataset=Tokens(), callbacks=callbacks)


def train(model, args, data):
    # example
    with WatchCallback(file=f"{args.output_dir}/run.jsonl") as callback:
        trainer = Trainer(model, args, train_dataset=data, callbacks=[callback])
        trainer.train()
    # end
    return trainer, callback


@pytest.mark.tool("WatchCallback", "six rows equal its norm before clipping")
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"bf16": True},
        {"gradient_checkpointing": True},
        {"torch_compile": True, "torch_compile_backend": "aot_eager"},
    ],
    ids=lambda a: " ".join(a) or "plain",
)
def test_six_rows_equal_the_trainers_norms_before_clipping(tmp_path, arguments):
    training, callback = train(model(), settings_of(tmp_path, **arguments), Tokens())
    logged = [row for row in training.state.log_history if "grad_norm" in row]
    norms = [row["grad_norm"] for row in logged]
    assert min(norms) > CLIP, "nothing was clipped"
    history = callback.watcher.history
    assert history["gradient_norm"] == pytest.approx(norms, rel=1e-5)
    assert history["loss"] == pytest.approx([row["loss"] for row in logged], abs=1e-3)
    assert History.read(tmp_path / "run.jsonl")["step"] == list(range(6))
    for k in range(6):
        layers = [values[k] for values in history.layers("gradient_norm").values()]
        assert math.hypot(*layers) == pytest.approx(norms[k], rel=1e-5)


class Interrupts(TrainerCallback):
    def on_step_end(self, args, state, control, **training):
        if state.global_step == 3:
            raise KeyboardInterrupt


def hooks(model):
    return [p for p in model.parameters() if p._post_accumulate_grad_hooks]


def interrupted(folder, callback):
    training = trainer(folder, callback)
    training.add_callback(Interrupts)
    with pytest.raises(KeyboardInterrupt):
        training.train()
    assert len(callback.watcher.history) == 3
    return training


@pytest.mark.tool(
    "WatchCallback", "a training after an interrupted one is watched anew"
)
def test_an_interrupted_training_can_be_watched_again(tmp_path):
    callback = WatchCallback()
    training = interrupted(tmp_path, callback)
    first = callback.watcher
    training.remove_callback(Interrupts)
    training.train()
    assert not first.is_open
    assert len(first.history) == 3
    assert len(callback.watcher.history) == 6
    assert not hooks(training.model)


@pytest.mark.tool("WatchCallback", "hooks of an interrupted training go")
def test_hooks_of_an_interrupted_training_go_with_the_callback(tmp_path):
    with WatchCallback() as callback:
        net = interrupted(tmp_path, callback).model
        assert hooks(net)
    assert not hooks(net)
    callback = WatchCallback()
    net = interrupted(tmp_path, callback).model
    assert hooks(net)
    del callback
    gc.collect()
    assert not hooks(net)


def own_loss(model, batch):
    return model(**batch)


@pytest.mark.tool("diagnose", "tells ill from well; refuses training_step as step=")
def test_a_diagnosis_after_training(tmp_path):
    training = trainer(tmp_path, WatchCallback(), lr_scheduler_type="constant")
    training.train()
    loader = training.get_train_dataloader()
    for lr, verdicts in ((1e-3, {"healthy", "unclear"}), (10.0, {"broken"})):
        for group in training.optimizer.param_groups:
            group["lr"] = lr
        report = diagnose(training.model, training.optimizer, loader, loss=own_loss)
        assert report.verdict in verdicts
    fresh = trainer(tmp_path, WatchCallback())
    optimizer = fresh.create_optimizer()
    with pytest.raises(ValueError, match="step: expected an update that runs, got"):
        diagnose(
            fresh.model,
            optimizer,
            loader,
            step=lambda batch: fresh.training_step(fresh.model, batch),
        )


@pytest.mark.tool("audit", "right")
def test_an_audit_sees_transposed_layers():
    told = audit(model(), activation="gelu")
    assert len(told) == 9, "four in each block, and the head"
    assert all(row.verdict != "unknown" for row in told)


@pytest.mark.tool("lr_range_test", "right")
def test_the_range_of_rates_of_a_model_that_gives_its_loss():
    batches = [{k: v[None] for k, v in Tokens()[i].items()} for i in range(8)]
    assert len(lr_range_test(model(), batches, loss=own_loss, steps=10).losses) == 10


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


@pytest.mark.tool("RecorderCallback, replay", "a NaN at step 137 again, bit for bit")
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
        per_device_train_batch_size=2, report_to=[], use_cpu=True,
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


@pytest.mark.tool("RecorderCallback, replay", "a NaN at step 137 again, bit for bit")
def test_the_report_names_the_cause(tmp_path):
    path = tmp_path / "black_box.pt"
    settings = TrainingArguments(
        output_dir=str(tmp_path), max_steps=DEATH + 1, report_to=[], use_cpu=True,
        per_device_train_batch_size=2, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    callback = RecorderCallback(path=path)
    training = Poisoned(model(), settings, train_dataset=Tokens(), callbacks=[callback])
    with pytest.warns(UserWarning, match=f"step {DEATH}"):
        training.train()
    assert replay(path, model()).report.verdict == "broken"


SIZES = {
    "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2,
    "intermediate_size": 32, "max_position_embeddings": 32,
}  # fmt: skip
SHARED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
MODELS = {
    "GPT-2": (GPT2LMHeadModel, GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4}),
    "BERT": (BertModel, BertConfig, SIZES),
    "rotary, shared keys": (LlamaForCausalLM, LlamaConfig, SHARED),
    "normalized": (Qwen3ForCausalLM, Qwen3Config, SHARED),
    "capped": (
        Gemma2ForCausalLM,
        Gemma2Config,
        SHARED | {"attn_logit_softcapping": 1.0},
    ),
}

WAYS = [(name, "eager") for name in MODELS]
WAYS += [(name, "sdpa") for name in MODELS if name != "capped"]  # it has no such way


def built(name, way):
    make, settings, sizes = MODELS[name]
    torch.manual_seed(0)
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return make(settings(vocab_size=32, attn_implementation=way, **sizes, **ends))


@pytest.mark.tool("attention_logits", "equal to the model's own weights")
@pytest.mark.parametrize(("name", "way"), WAYS)
def test_logits_give_the_weights_that_the_model_returns(name, way):
    draw = torch.Generator().manual_seed(0)
    padding = torch.tensor([[1] * 9, [1] * 6 + [0] * 3, [0] * 4 + [1] * 5])
    batch = {
        "input_ids": torch.randint(1, 32, (3, 9), generator=draw),
        "attention_mask": padding,
    }
    found = attention_logits(built(name, way), batch)
    with torch.no_grad():
        told = built(name, "eager").eval()(**batch, output_attentions=True).attentions
    assert len(found) == len(told) == 2
    for logits, weights in zip(found.values(), told, strict=True):
        seen = (logits > -torch.inf).any(-1)
        assert seen.any(-1).all()
        torch.testing.assert_close(
            logits.softmax(-1)[seen], weights[seen], rtol=1e-4, atol=1e-6
        )
