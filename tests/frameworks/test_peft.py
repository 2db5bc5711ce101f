"""The watcher of a model with adapters: a column for each parameter that trains."""

import pytest
import torch
from conftest import CLIP
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from gradlib import audit, diagnose, watch


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    adapters = LoraConfig(target_modules=["c_attn"], r=2, fan_in_fan_out=True)
    return get_peft_model(GPT2LMHeadModel(config), adapters)


@pytest.fixture
def batches():
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 16, (6, 4, 8), generator=draw)
    return [{"input_ids": x, "labels": x} for x in ids]


def train(model, optimizer, batches):
    # example
    with watch(model, optimizer) as watcher:
        for batch in batches:
            optimizer.zero_grad()
            model(**batch).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
    # end
    return watcher


@pytest.mark.tool("watch", "six rows equal its norm before clipping")
def test_six_rows_equal_the_norms_before_clipping(model, batches, check_rows):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = train(model, optimizer, batches).history
    check_rows(history)
    columns = list(history.layers("gradient_norm"))
    assert len(columns) == 2
    assert all("lora_" in column for column in columns)


@pytest.mark.tool("diagnose", "a rate too high is broken; frozen weights stay")
def test_a_diagnosis_leaves_frozen_weights_alone(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e12)
    before = {n: p.clone() for n, p in model.named_parameters()}
    report = diagnose(
        model, optimizer, batches, loss=lambda model, batch: model(**batch)
    )
    assert report.verdict == "broken"
    assert all((p == before[n]).all() for n, p in model.named_parameters())


@pytest.mark.tool("audit", "refuses, and asks for the activation")
def test_an_audit_asks_for_the_activation(model):
    with pytest.raises(ValueError, match="activation: expected one kind of activation"):
        audit(model)
