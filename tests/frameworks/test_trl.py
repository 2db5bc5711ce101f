"""The callback of transformers under the trainer of trl."""

import pyarrow
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from gradlib import diagnose
from gradlib.integrations.transformers import WatchCallback

CLIP = 0.5


@pytest.fixture
def parts(tmp_path):
    """Model, data and what the trainer needs besides."""
    torch.manual_seed(0)
    words = {f"w{k}": k for k in range(30)} | {"<pad>": 30, "<eos>": 31}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<pad>")),
        pad_token="<pad>",
        eos_token="<eos>",
    )
    config = GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 30, (24, 8), generator=draw).tolist()
    arguments = SFTConfig(
        output_dir=str(tmp_path), max_steps=6, per_device_train_batch_size=4,
        logging_steps=1, report_to=[], use_cpu=True, max_grad_norm=CLIP, bf16=False,
        learning_rate=1e-2, save_strategy="no", disable_tqdm=True, max_length=8,
        dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    data = Dataset(pyarrow.table({"input_ids": ids}), fingerprint="tokens")
    return GPT2LMHeadModel(config), arguments, data, tokenizer


def trainer_of(parts):
    model, args, data, tokenizer = parts
    # example
    watcher = WatchCallback(file=f"{args.output_dir}/run.jsonl")
    trainer = SFTTrainer(
        model, args, train_dataset=data, processing_class=tokenizer, callbacks=[watcher]
    )
    # end
    return trainer, watcher


@pytest.mark.tool("WatchCallback", "six rows equal its norm before clipping")
def test_six_rows_equal_the_trainers_norms_before_clipping(parts):
    trainer, callback = trainer_of(parts)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "grad_norm" in row]
    norms = [row["grad_norm"] for row in logged]
    history = callback.watcher.history
    assert history["gradient_norm"] == pytest.approx(norms, rel=1e-5)
    assert len(norms) == 6
    assert min(norms) > CLIP, "nothing was clipped"
    assert len(history.recorded("loss")[0]) == 6


@pytest.mark.tool("diagnose", "names the cause")
def test_a_diagnosis_after_training(parts):
    trainer, _ = trainer_of(parts)
    trainer.train()
    report = diagnose(
        trainer.model,
        trainer.optimizer,
        trainer.get_train_dataloader(),
        loss=lambda model, batch: model(**batch),
    )
    assert report.cause == "learning_rate_zero", "its schedule has ended"
