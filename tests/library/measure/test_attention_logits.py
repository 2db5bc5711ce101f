"""Attention logits: those of each kind of layer, against a computation by hand."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gradlib.measure import attention_changes, attention_logits
from gradlib.measure.attention import statistics
from gradlib.models import small_transformer

B, T, WIDTH, HEADS = 3, 8, 16, 4
SIZE = WIDTH // HEADS


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_head(x, heads=HEADS):
    """From (batch, tokens, width) to (batch, heads, tokens, size)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def causal(tokens=T):
    return torch.ones(tokens, tokens, dtype=torch.bool).tril()


class Projected(nn.Module):
    """Attention in the style of transformers: shared key heads, one of three ways."""

    def __init__(self, way, key_heads=HEADS, rotate=lambda x: x):
        super().__init__()
        self.way, self.key_heads, self.rotate = way, key_heads, rotate
        self.num_heads = HEADS
        self.q_proj = nn.Linear(WIDTH, WIDTH)
        self.k_proj = nn.Linear(WIDTH, key_heads * SIZE)
        self.v_proj = nn.Linear(WIDTH, key_heads * SIZE)

    def forward(self, x, mask=None, is_causal=False):
        q = self.rotate(by_head(self.q_proj(x)))
        k = self.rotate(by_head(self.k_proj(x), self.key_heads))
        v = by_head(self.v_proj(x), self.key_heads)
        if self.way == "sdpa gqa":
            return F.scaled_dot_product_attention(
                q, k, v, mask, is_causal=is_causal, enable_gqa=True
            )
        repeats = HEADS // self.key_heads
        k, v = (z.repeat_interleave(repeats, dim=1) for z in (k, v))
        if self.way == "sdpa":
            return F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)
        logits = q @ k.mT / math.sqrt(SIZE)
        if is_causal:
            mask = causal()
        if mask is not None:
            hidden = torch.full_like(logits, torch.finfo(logits.dtype).min)
            logits = logits + hidden.masked_fill(mask, 0.0)
        if self.way == "joined":
            weights = F.softmax(logits.flatten(0, 1), dim=-1)
            return weights @ v.flatten(0, 1)
        return torch.softmax(logits, -1) @ v

    def by_hand(self, x):
        q = self.rotate(by_head(self.q_proj(x)))
        k = self.rotate(by_head(self.k_proj(x), self.key_heads))
        rows = [q[:, h] @ k[:, h // (HEADS // self.key_heads)].mT for h in range(HEADS)]
        return torch.stack(rows, 1) / math.sqrt(SIZE)


def turned(x):
    """A rotary embedding."""
    angle = torch.arange(x.shape[-2])[:, None] * torch.tensor([1.0, 0.1])
    one, two = x.chunk(2, -1)
    return torch.cat(
        [one * angle.cos() - two * angle.sin(), one * angle.sin() + two * angle.cos()],
        -1,
    )


MASKS = {
    "none": (None, False, torch.ones(T, T, dtype=torch.bool)),
    "causal": (None, True, causal()),
    "padding": (
        (torch.arange(T) < torch.tensor([[T], [5], [2]]))[:, None, None],
        False,
        (torch.arange(T) < torch.tensor([[T], [5], [2]]))[:, None, None].expand(
            B, HEADS, T, T
        ),
    ),
}


@pytest.mark.parametrize("way", ["sdpa", "sdpa gqa", "softmax", "joined"])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("mask", MASKS)
def test_logits_of_projections_are_those_by_hand(way, key_heads, mask):
    torch.manual_seed(0)
    layer = Projected(way, key_heads, turned)
    given, is_causal, allowed = MASKS[mask]
    x = draw(B, T, WIDTH)
    found = attention_logits(layer, {"x": x, "mask": given, "is_causal": is_causal})
    expected = layer.by_hand(x).masked_fill(~allowed, -math.inf)
    torch.testing.assert_close(found, {"Projected": expected.detach()})


@pytest.mark.parametrize("additive", [True, False])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_masks_that_are_added_hide_or_shift(additive, scale):
    class Scaled(Projected):
        def forward(self, x, mask):
            q, k, v = (by_head(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
            return F.scaled_dot_product_attention(q, k, v, mask, scale=scale)

    layer, x = Scaled("sdpa"), draw(B, T, WIDTH)
    slopes = -torch.arange(T).float().expand(T, T)
    mask = slopes.masked_fill(~causal(), -1e9) if additive else causal()
    found = attention_logits(layer, (x, mask))["Scaled"]
    expected = layer.by_hand(x) * (2 * (scale or 0.5))
    if additive:
        expected = expected + slopes
    torch.testing.assert_close(found, expected.masked_fill(~causal(), -math.inf))


@pytest.mark.parametrize("qk_norm", [False, True])
def test_logits_of_our_transformer(qk_norm):
    model = small_transformer(16, WIDTH, 2, HEADS, qk_norm=qk_norm, seed=0)
    tokens = torch.randint(16, (B, T), generator=torch.Generator().manual_seed(1))
    found = attention_logits(model, tokens)
    assert list(found) == ["blocks.0.attention", "blocks.1.attention"]
    layer = model.blocks[0].attention
    x = model.blocks[0].attention_norm(model.tokens(tokens) + model.positions[:T])
    q = layer.query_norm(by_head(layer.query(x)))
    k = layer.key_norm(by_head(layer.key(x)))
    expected = (q @ k.mT / 2.0).masked_fill(~causal(), -math.inf)
    torch.testing.assert_close(found["blocks.0.attention"], expected.detach())
    model.record_logits = True
    model(tokens)
    largest = [statistics(x)[0].max() for x in found.values()]
    torch.testing.assert_close(torch.stack(largest), model.max_logits)


MULTIHEAD = {
    "self": {},
    "need_weights": {"call": {"need_weights": True}},
    "causal": {"call": {"attn_mask": ~causal(), "is_causal": True}},
    "additive": {"call": {"attn_mask": draw(T, T, seed=5)}},
    "a mask a head": {"call": {"attn_mask": draw(B * HEADS, T, T, seed=5)}},
    "padding": {
        "call": {"key_padding_mask": torch.arange(T) >= torch.tensor([[T], [5], [2]])}
    },
    "padding and causal": {
        "call": {
            "key_padding_mask": torch.arange(T) >= torch.tensor([[T], [5], [2]]),
            "attn_mask": ~causal(),
        }
    },
    "no bias": {"make": {"bias": False}},
    "bias_k": {"make": {"add_bias_kv": True}, "call": {"attn_mask": ~causal()}},
    "zero": {"make": {"add_zero_attn": True}, "call": {"attn_mask": ~causal()}},
    "other keys": {"make": {"kdim": 5, "vdim": 6}},
    "second batch": {"make": {"batch_first": False}},
}


@pytest.mark.parametrize("name", MULTIHEAD)
@pytest.mark.parametrize("training", [True, False])
def test_logits_of_multihead_attention_give_its_weights(name, training):
    case = MULTIHEAD[name]
    torch.manual_seed(0)
    made = {"batch_first": True, **case.get("make", {})}
    layer = nn.MultiheadAttention(WIDTH, HEADS, **made).train(training)
    nn.init.normal_(layer.in_proj_bias) if layer.in_proj_bias is not None else None
    sizes = (WIDTH, made.get("kdim", WIDTH), made.get("vdim", WIDTH))
    inputs = [draw(B, T, size, seed=k) for k, size in enumerate(sizes)]
    if not made["batch_first"]:
        inputs = [x.transpose(0, 1) for x in inputs]
    call = {"need_weights": False, **case.get("call", {})}
    named = dict(zip(("query", "key", "value"), inputs, strict=True))
    found = attention_logits(layer, {**named, **call})["MultiheadAttention"]
    call |= {"need_weights": True, "average_attn_weights": False}
    _, weights = layer(*inputs, **call)
    torch.testing.assert_close(found.softmax(-1), weights.detach())
    assert torch.equal(found == -math.inf, weights == 0)


def test_multihead_logits_by_hand():
    torch.manual_seed(0)
    layer, x = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), draw(B, T, WIDTH)
    q, k, _ = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).chunk(3, -1)
    expected = by_head(q) @ by_head(k).mT / 2.0
    found = attention_logits(layer, (x, x, x))["MultiheadAttention"]
    torch.testing.assert_close(found, expected.detach())
    alone = attention_logits(layer, (x[0], x[0], x[0]))["MultiheadAttention"]
    torch.testing.assert_close(alone, expected[:1].detach())


@pytest.mark.parametrize("padded", [True, False])
def test_the_fast_path_of_the_encoder_is_left(padded):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    x = draw(B, T, WIDTH)
    padding = (torch.arange(T) >= torch.tensor([[T], [5], [2]])) if padded else None
    before = model(x, src_key_padding_mask=padding)
    found = attention_logits(model, {"src": x, "src_key_padding_mask": padding})
    assert list(found) == ["layers.0.self_attn", "layers.1.self_attn"]
    shown = found["layers.0.self_attn"] > -math.inf
    assert bool(shown.all()) != padded
    torch.testing.assert_close(model(x, src_key_padding_mask=padding), before)


def test_half_precision_and_autocast_read_in_float32():
    layer, x = Projected("sdpa"), draw(B, T, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        found = attention_logits(layer, x)["Projected"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer.by_hand(x).detach(), rtol=0.02, atol=0.02)
    half = Projected("softmax").bfloat16()
    found = attention_logits(half, (x.bfloat16(), causal()))["Projected"]
    assert torch.equal(found > -math.inf, causal().expand_as(found))


def test_statistics_against_a_loop():
    logits = 3 * draw(B, HEADS, T, T)
    allowed = causal() & MASKS["padding"][2]
    logits = logits.masked_fill(~allowed, -math.inf)
    found = statistics(logits)
    for h in range(HEADS):
        largest, ranges, entropies = 0.0, [], []
        most = int(allowed[:, h].sum(-1).max())
        for row in logits[:, h].flatten(0, 1).tolist():
            seen = [x for x in row if x > -math.inf]
            total = sum(math.exp(x) for x in seen)
            p = [math.exp(x) / total for x in seen]
            largest = max(largest, *map(abs, seen))
            ranges.append(max(seen) - min(seen))
            if 2 * len(seen) >= most:
                entropies.append(-sum(x * math.log(x) for x in p))
        mean = sum(entropies) / len(entropies)
        expected = torch.tensor([largest, max(ranges), mean, min(entropies)])
        torch.testing.assert_close(found[:, h], expected)


def test_statistics_of_edges():
    even = torch.zeros(1, 1, 4, 4)
    assert statistics(even).flatten().tolist() == pytest.approx(
        [0, 0, math.log(4), math.log(4)]
    )
    nobody = even.clone()
    nobody[0, 0, 0] = -math.inf
    assert torch.equal(statistics(nobody), statistics(even))
    broken = even.clone()
    broken[0, 0, 1, 1] = math.nan
    assert statistics(broken).isnan().all()
    sharp = even.clone()
    sharp[..., 0] = 1e4
    largest, ranges, mean, least = statistics(sharp).flatten().tolist()
    assert (largest, ranges, mean, least) == (1e4, 1e4, 0, 0)


def test_nothing_of_it_stays():
    model = small_transformer(16, WIDTH, 1, HEADS, seed=0)
    model.train()
    tokens = torch.zeros(2, T, dtype=torch.int64)
    model(tokens).sum().backward()
    grads = [p.grad.clone() for p in model.parameters()]
    state = torch.get_rng_state()
    attention_logits(model, tokens)
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, grads, (p.grad for p in model.parameters())))
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not torch._C._len_torch_function_stack()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_layer_that_raises_leaves_nothing(error):
    class Raises(Projected):
        def forward(self, x):
            super().forward(x)
            raise error("on purpose")

    layer = Raises("sdpa")
    with pytest.raises(error, match="on purpose"):
        attention_logits(layer, draw(B, T, WIDTH))
    assert not torch._C._len_torch_function_stack()
    assert not layer._forward_hooks
    assert not layer._forward_pre_hooks


def test_change_of_logits_by_hand():
    before = draw(B, HEADS, T, T).masked_fill(~causal(), -math.inf)
    shift = draw(B, HEADS, T, 1, seed=1)
    step = draw(B, HEADS, T, T, seed=2)
    after = before + shift + step
    found = attention_changes({"a": before}, {"a": after})
    for h in range(HEADS):
        squares = []
        for b in range(B):
            for t in range(T):
                x = step[b, h, t, : t + 1]
                squares += (x - x.mean()).square().tolist()
        assert found[f"a/{h}"] == pytest.approx(
            math.sqrt(sum(squares) / len(squares)), rel=1e-4
        )
    assert attention_changes({"a": before}, {"a": before + shift})["a/0"] < 1e-6


def test_errors_say_what_was_expected():
    plain = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="expected attention layers, got Sequential"):
        attention_logits(plain, draw(2, 3))
    with pytest.raises(ValueError, match=r"names of modules, got 'o'; the model has 0"):
        attention_logits(plain, draw(2, 3), layers=["o"])
    with pytest.raises(ValueError, match="at least one name, got none"):
        attention_logits(plain, draw(2, 3), layers=[])
    with pytest.raises(
        ValueError, match="expected to see the attention of 0, got none"
    ):
        attention_logits(plain, draw(2, 3), layers="0")
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
        attention_logits(3, draw(2, 3))
    with pytest.raises(ValueError, match=r"expected a divisor .* got 5"):
        attention_logits(Projected("joined"), draw(B, T, WIDTH), heads=5)
    one = {"a": torch.zeros(1, 1, 2, 2)}
    with pytest.raises(ValueError, match="the same layers"):
        attention_changes(one, {})
    with pytest.raises(ValueError, match=r"same shape for a, got \(1, 1, 2, 2\)"):
        attention_changes(one, {"a": torch.zeros(1, 1, 3, 3)})


def test_the_innermost_module_that_looks_like_attention_counts():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key = nn.Identity(), nn.Identity()
            self.inner = Projected("sdpa")

        def forward(self, x):
            return self.inner(x)

    assert list(attention_logits(Wrapped(), draw(B, T, WIDTH))) == ["inner"]
    assert list(attention_logits(Wrapped(), draw(B, T, WIDTH), layers=[""])) == [
        "Wrapped"
    ]


@pytest.mark.parametrize("reentrant", [True, False])
def test_under_checkpointing(reentrant):
    from gradlib import AttentionMonitor

    layer = Projected("sdpa")
    x = draw(B, T, WIDTH).requires_grad_()
    with AttentionMonitor(layer, every=1, rows=B) as monitor:
        checkpoint(layer, x, use_reentrant=reentrant).sum().backward()
        monitor.log()
    found = monitor.history["attention_logit/Projected/0"]
    assert found == pytest.approx([layer.by_hand(x)[:, 0].abs().max().item()])


def test_a_watched_layer_can_be_copied_and_pickled():
    from gradlib import AttentionMonitor

    model = small_transformer(16, WIDTH, 1, HEADS, seed=0)
    tokens = torch.zeros(2, T, dtype=torch.int64)
    with AttentionMonitor(model, every=1):
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            other(tokens)
            assert not torch._C._len_torch_function_stack()
