"""The callback under the real Trainer of transformers, with a tiny random model."""

import gc
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

from gradlib import audit, diagnose, lr_range_test
from gradlib.history import History
from gradlib.integrations.transformers import WatchCallback

CLIP = 0.5


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
