"""The small transformer: parity with torch, norm positions, attention logits."""

import math

import pytest
import torch
from torch import nn

from gradlib.measure import gradient_norms
from gradlib.transformer import small_transformer, token_loss


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_tokens(*shape: int, vocab: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randint(vocab, shape, generator=generator(seed))


@pytest.mark.parametrize("position", ["pre", "post"])
@pytest.mark.parametrize("causal", [True, False])
def test_block_is_torchs_encoder_layer(position: str, causal: bool) -> None:
    model = small_transformer(
        width=12, heads=3, depth=1, norm_position=position, causal=causal, seed=0
    )
    block = model.blocks[0]
    twin = nn.TransformerEncoderLayer(
        12, 3, 48, dropout=0.0, batch_first=True, norm_first=position == "pre"
    )
    a = block.attention
    with torch.no_grad():
        projections = [a.query.weight, a.key.weight, a.value.weight]
        twin.self_attn.in_proj_weight.copy_(torch.cat(projections))
        twin.self_attn.in_proj_bias.zero_()
        twin.self_attn.out_proj.bias.zero_()
    twin.self_attn.out_proj.load_state_dict(
        {"weight": a.out.weight, "bias": torch.zeros(12)}
    )
    twin.linear1.load_state_dict(block.up.state_dict())
    twin.linear2.load_state_dict(block.down.state_dict())
    x = torch.randn(2, 5, 12, generator=generator(1))
    mask = torch.full((5, 5), -math.inf).triu(1) if causal else None
    torch.testing.assert_close(block(x)[0], twin(x, src_mask=mask))


@pytest.mark.parametrize("qk_norm", [True, False])
def test_no_token_sees_the_future(qk_norm: bool) -> None:
    model = small_transformer(qk_norm=qk_norm, seed=0)
    tokens = some_tokens(3, 8)
    logits = model(tokens)
    assert logits.shape == (3, 8, 16)
    tokens[:, 5] = (tokens[:, 5] + 1) % 16
    changed = (model(tokens) - logits).abs().amax((0, 2)) > 0
    assert changed.tolist() == [False] * 5 + [True] * 3


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_max_logits_are_those_of_the_visible_pairs(causal: bool, seed: int) -> None:
    model = small_transformer(width=8, heads=2, depth=1, causal=causal, seed=seed)
    tokens = some_tokens(2, 6)
    model(tokens)
    assert model.max_logits is None
    model.record_logits = True
    model(tokens)
    block = model.blocks[0]
    x = block.attention_norm(model.tokens(tokens) + model.positions[:6])
    q, k = block.attention.query(x), block.attention.key(x)
    largest = 0.0
    for b in range(2):
        for head in (slice(0, 4), slice(4, 8)):
            for i in range(6):
                for j in range(i + 1 if causal else 6):
                    logit = (q[b, i, head] @ k[b, j, head]).item() / 2.0
                    largest = max(largest, abs(logit))
    torch.testing.assert_close(model.max_logits, torch.tensor([largest]))
    assert not model.max_logits.requires_grad


def test_qk_norm_bounds_logits_whatever_the_weights() -> None:
    for qk_norm, bounded in ((True, True), (False, False)):
        model = small_transformer(width=32, heads=4, qk_norm=qk_norm, seed=0)
        with torch.no_grad():
            for block in model.blocks:
                block.attention.query.weight *= 100
                block.attention.key.weight *= 100
        model.record_logits = True
        model(some_tokens(4, 16))
        assert bool((model.max_logits <= math.sqrt(8) + 1e-4).all()) is bounded


def last_gradients(position: str, seed: int) -> torch.Tensor:
    """Gradient of the last block's output weights, for one token a sequence."""
    norms = []
    for depth in (2, 8, 32):
        model = small_transformer(
            64, 64, depth, 1, norm_position=position, hidden=64, seed=seed
        )
        loss = token_loss(
            model(some_tokens(256, 1, vocab=64, seed=seed)),
            some_tokens(256, 1, vocab=64, seed=seed + 100),
        )
        loss.backward()
        norms.append(gradient_norms(model)[f"blocks.{depth - 1}.down.weight"])
    return torch.tensor(norms)


def test_pre_norm_shrinks_the_last_gradient_with_depth() -> None:
    pre, post = (
        torch.stack([last_gradients(position, seed) for seed in range(3)]).log().mean(0)
        for position in ("pre", "post")
    )
    expected = 0.5 * math.log((1 + 1.5 * 32) / (1 + 1.5 * 2))
    assert (pre[0] - pre[2]).item() == pytest.approx(expected, abs=0.3)
    assert abs(post[0] - post[2]) < 0.6


def train(qk_norm: bool, lr: float = 0.1, steps: int = 100) -> tuple[float, float]:
    """Last losses and largest logit on the task to repeat nine tokens."""
    model = small_transformer(depth=1, context=16, qk_norm=qk_norm, seed=0)
    model.record_logits = True
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=(0.9, 0.98), weight_decay=0.0
    )
    losses, largest = [], 0.0
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1, (step + 1) / 20)
        half = some_tokens(16, 9, seed=step)
        tokens = torch.cat([half, half], 1)[:, :17]
        loss = token_loss(model(tokens[:, :-1])[:, 8:], tokens[:, 9:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        largest = max(largest, model.max_logits.max().item())
    return sum(losses[-10:]) / 10, largest


def test_qk_norm_survives_a_large_rate() -> None:
    broken, large = train(qk_norm=False)
    cured, small = train(qk_norm=True)
    assert broken > 2.5
    assert cured < 1.0
    assert large > 50 * small


def test_seed_leaves_torch_alone() -> None:
    state = torch.get_rng_state()
    a, b = (small_transformer(seed=4) for _ in range(2))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)
    assert torch.equal(torch.get_rng_state(), state)


def test_token_loss_ignores_what_does_not_count() -> None:
    logits = torch.randn(2, 3, 5, generator=generator(0))
    targets = some_tokens(2, 3, vocab=5)
    naive = -sum(
        logits[b, t].log_softmax(0)[targets[b, t]] for b in range(2) for t in range(3)
    )
    torch.testing.assert_close(token_loss(logits, targets), naive / 6)
    targets[:, 0] = -100
    rest = token_loss(logits[:, 1:], targets[:, 1:])
    torch.testing.assert_close(token_loss(logits, targets), rest)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab": 0}, "vocab: expected"),
        ({"width": 0}, "width: expected"),
        ({"depth": 0}, "depth: expected"),
        ({"heads": 0}, "heads: expected"),
        ({"heads": 5}, "heads: expected a divisor of the width 32, got 5"),
        ({"context": 0}, "context: expected"),
        ({"hidden": 0}, "hidden: expected"),
        ({"norm_position": "mid"}, "norm_position: expected one of pre, post"),
        ({"activation": "rellu"}, "activation: expected one of"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_transformer(**options)


def test_wrong_tokens_are_refused() -> None:
    model = small_transformer(context=4)
    with pytest.raises(ValueError, match=r"steps <= 4, got \(2, 5\)"):
        model(some_tokens(2, 5))
    with pytest.raises(ValueError, match=r"\(batch, steps\)"):
        model(some_tokens(3))
