"""The attention monitor: which steps, which passes, alone and beside `watch`."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD

from gradlib import AttentionMonitor, attention_logits, watch
from gradlib.history import History
from gradlib.measure.attention import QUANTITIES, statistics
from gradlib.models import small_transformer, token_loss

HEADS, T = 4, 8


def transformer(**given):
    return small_transformer(16, 16, 2, HEADS, seed=0, **given)


def tokens(seed=0, batch=3, steps=T):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(16, (batch, steps), generator=draw)


def expected_of(model, batch, rows=2):
    """Statistics by column, from all logits of a batch."""
    return {
        f"{quantity}/{name}/{head}": value
        for name, logits in attention_logits(model, batch[:rows]).items()
        for quantity, values in zip(QUANTITIES, statistics(logits), strict=True)
        for head, value in enumerate(values.tolist())
    }


def rows_of(history):
    return [
        {
            name: history[name][k]
            for name in history.columns
            if name.startswith("attention") and not math.isnan(history[name][k])
        }
        for k in range(len(history))
    ]


def train(model, optimizer, batch):
    optimizer.zero_grad()
    loss = token_loss(model(batch), batch)
    loss.backward()
    optimizer.step()
    return loss


def test_it_records_a_few_rows_each_so_many_steps():
    model = transformer()
    expected = []
    with AttentionMonitor(model, every=2) as monitor:
        for k in range(5):
            if k % 2 == 0:
                expected.append(expected_of(model, tokens(k)))
            model(tokens(k))
            monitor.log(loss=float(k))
    assert monitor.history["step"] == [0, 2, 4]
    assert monitor.history["loss"] == [0.0, 2.0, 4.0]
    for found, wanted in zip(rows_of(monitor.history), expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    assert monitor.layers == ["blocks.0.attention", "blocks.1.attention"]


@pytest.mark.parametrize("file", [False, True])
def test_its_columns_join_the_rows_of_watch(file, tmp_path):
    model = transformer()
    optimizer = SGD(model.parameters(), lr=0.5)
    path = tmp_path / "run.jsonl" if file else None
    attention = AttentionMonitor(model, every=4)
    expected = {}
    with watch(model, optimizer, every=2, attention=attention, file=path) as watcher:
        for k in range(6):
            if k % 4 == 0:
                expected[k] = expected_of(model, tokens(k))
            train(model, optimizer, tokens(k))
    assert watcher.history["step"] == [0, 2, 4]
    for history in [watcher.history, *([History.read(path)] if file else [])]:
        found = dict(zip(history["step"], rows_of(history), strict=True))
        assert not found.pop(2)
        assert len(history.layers("gradient_norm")) == len(list(model.parameters()))
        for step, wanted in expected.items():
            assert found[step] == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    assert not any(m._forward_hooks for m in model.modules())


def test_it_changes_nothing():
    models = [transformer(), transformer()]
    optimizers = [SGD(m.parameters(), lr=0.5) for m in models]
    pairs = list(zip(models, optimizers, strict=True))
    attention = AttentionMonitor(models[1], every=1)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with watch(models[1], optimizers[1], attention=attention):
        for k in range(3):
            losses = [train(m, o, tokens(k)) for m, o in pairs]
            assert torch.equal(*losses)
    for p, q in zip(*(m.parameters() for m in models), strict=True):
        assert torch.equal(p, q)
        assert torch.equal(p.grad, q.grad)
    assert torch.equal(state, torch.get_rng_state())


def test_a_collapsed_head_is_named():
    model = transformer()
    layer = model.blocks[1].attention
    with torch.no_grad():
        size = 16 // HEADS
        for w in (layer.query.weight, layer.key.weight):
            w[2 * size : 3 * size] *= 30
    with AttentionMonitor(model, every=1) as monitor:
        model(tokens())
        monitor.log()
    assert monitor.collapsed() == ["blocks.1.attention/2"]
    entropies = monitor.history.layers("attention_entropy")
    assert min(entropies, key=lambda name: entropies[name][0]) == "blocks.1.attention/2"
    logits = monitor.history.layers("attention_logit")
    assert max(logits, key=lambda name: logits[name][0]) == "blocks.1.attention/2"


def test_averaged_weights_hide_what_it_names():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(16, HEADS, batch_first=True)
    with torch.no_grad():
        layer.in_proj_weight[:4] *= 50
        layer.in_proj_weight[16:20] *= 50
    x = torch.randn(2, 32, 16)
    with AttentionMonitor(layer, every=1) as monitor:
        _, weights = layer(x, x, x)
        monitor.log()
    averaged = -(weights * weights.clamp_min(1e-30).log()).sum(-1).mean()
    assert averaged > 2.0
    assert monitor.collapsed() == ["MultiheadAttention/0"]


@pytest.mark.parametrize("training_first", [True, False])
def test_the_pass_that_builds_a_graph_counts(training_first):
    model = transformer()
    with AttentionMonitor(model, every=1) as monitor:
        for is_training in (training_first, not training_first):
            with torch.set_grad_enabled(is_training):
                model(tokens(seed=int(is_training)))
        monitor.log()
    expected = expected_of(model, tokens(seed=1))
    assert rows_of(monitor.history)[0] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_of_several_passes_the_first_counts():
    model = transformer()
    with AttentionMonitor(model, every=1) as monitor:
        for k in range(3):
            model(tokens(k))
        monitor.log()
    expected = expected_of(model, tokens(0))
    assert rows_of(monitor.history)[0] == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("mode", ["eval", "no_grad", "inference_mode"])
def test_without_a_graph_it_sees_as_much(mode):
    model = transformer()
    model.train(mode != "eval")
    context = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
    with AttentionMonitor(model, every=1) as monitor:
        with context.get(mode, torch.enable_grad)():
            model(tokens())
        monitor.log()
    expected = expected_of(model, tokens())
    assert rows_of(monitor.history)[0] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_long_sequences_are_looked_at_here_and_there():
    model = small_transformer(16, 16, 1, HEADS, context=64, seed=0)
    batch = tokens(steps=64)
    with AttentionMonitor(model, every=1, queries=4) as monitor:
        model(batch)
        monitor.log()
    logits = attention_logits(model, batch[:2])["blocks.0.attention"]
    some = statistics(logits[:, :, [15, 31, 47, 63]])
    found = monitor.history.layers("attention_logit")
    assert [x for (x,) in found.values()] == pytest.approx(some[0].tolist(), rel=1e-5)


@pytest.mark.parametrize("is_compiled_before", [True, False])
def test_a_compiled_model_is_seen(is_compiled_before):
    model = transformer()
    compiled = torch.compile(model, backend="eager")
    if is_compiled_before:
        compiled(tokens())
    with AttentionMonitor(compiled, every=2) as monitor:
        for k in range(4):
            compiled(tokens(k))
            monitor.log()
    assert monitor.history["step"] == [0, 2]
    assert monitor.layers == ["blocks.0.attention", "blocks.1.attention"]
    for k, found in zip((0, 2), rows_of(monitor.history), strict=True):
        expected = expected_of(model, tokens(k))
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_layers_that_are_never_seen_are_named():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.MultiheadAttention(8, 2)
            self.two = nn.MultiheadAttention(8, 2)

        def forward(self, x):
            return self.one(x, x, x)[0]

    model = Half()
    with AttentionMonitor(model, every=1) as monitor:
        model(torch.ones(3, 2, 8))
        with pytest.warns(UserWarning, match="the attention of two, got none"):
            monitor.log()
        model(torch.ones(3, 2, 8))
        monitor.log()
        with pytest.raises(RuntimeError, match="attention of one, two, got none"):
            monitor.log()


def test_errors_say_what_was_expected():
    model = transformer()
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="expected attention layers, got Linear"):
        AttentionMonitor(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="rows: expected a whole number >= 1, got 0"):
        AttentionMonitor(model, rows=0)
    monitor = AttentionMonitor(model, every=3)
    with pytest.raises(RuntimeError, match="open monitor, got one that is new"):
        monitor.log()
    with pytest.raises(ValueError, match=r"attention\.every: .* multiple of every=2"):
        watch(model, optimizer, every=2, attention=monitor)
    with pytest.raises(TypeError, match="attention: expected AttentionMonitor, got"):
        watch(model, optimizer, attention=3)
    with monitor, pytest.raises(RuntimeError, match="new monitor, got one that is op"):
        watch(model, optimizer, attention=monitor)
    with pytest.raises(RuntimeError, match="new monitor, got one that is closed"):
        monitor.__enter__()
    with pytest.raises(ValueError, match="below: expected a finite number > 0"):
        monitor.collapsed(0)


def test_given_layers_and_heads():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Linear(8, 24)

        def forward(self, x):
            q, k, v = self.project(x).chunk(3, -1)
            q, k, v = (
                z.unflatten(-1, (2, 4)).transpose(1, 2).flatten(0, 1) for z in (q, k, v)
            )
            return F.scaled_dot_product_attention(q, k, v)

    torch.manual_seed(0)
    model = nn.Sequential(Joined())
    x = torch.randn(3, 5, 8)
    with pytest.raises(ValueError, match="expected attention layers"):
        AttentionMonitor(model)
    with AttentionMonitor(model, every=1, layers=["0"], heads=2, rows=3) as monitor:
        model(x)
        monitor.log()
    q, k, _ = model[0].project(x).chunk(3, -1)
    by_hand = [
        (q[..., s] @ k[..., s].mT).abs().max().item() / 2
        for s in (slice(4), slice(4, 8))
    ]
    found = monitor.history.layers("attention_logit")
    assert list(found) == ["0/0", "0/1"]
    assert [x for (x,) in found.values()] == pytest.approx(by_hand, rel=1e-5)
