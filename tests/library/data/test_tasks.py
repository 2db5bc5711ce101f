"""Synthetic tasks against their definitions, noise against its laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradlib.data import (
    adding_problem,
    copy_task,
    heavy_tailed_noise,
    markov_chain,
    repeat_task,
)


def noise_of(size, tail_index, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return heavy_tailed_noise(size, tail_index, generator=generator, **options)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(2, 40), st.integers(0, 1000))
def test_adding_marks_one_step_in_each_half(n, length, seed):
    inputs, targets = (t.numpy() for t in adding_problem(n, length, seed))
    assert inputs.shape == (n, length, 2)
    assert targets.shape == (n, 1)
    for sequence, (target,) in zip(inputs, targets, strict=True):
        numbers, marks = sequence.T
        early, late = np.flatnonzero(marks)
        assert early < length // 2 <= late
        assert set(marks.tolist()) <= {0.0, 1.0}
        assert math.isclose(target, numbers[early] + numbers[late], rel_tol=1e-6)


def test_adding_reaches_every_step_and_has_the_error_of_the_paper():
    inputs, targets = adding_problem(20_000, 11)
    assert (inputs[..., 1].mean(0) > 0).all()
    assert math.isclose(((targets - 1) ** 2).mean(), 1 / 6, rel_tol=0.02)
    assert inputs[..., 0].min() >= 0
    assert inputs[..., 0].max() < 1


def copy_by_hand(symbols, delay, count):
    """Input and target of one sequence, step by step."""
    blank, signal = count, count + 1
    inputs, targets = [], []
    for symbol in symbols:
        inputs.append(symbol)
        targets.append(blank)
    for step in range(delay):
        inputs.append(signal if step == delay - 1 else blank)
        targets.append(blank)
    for symbol in symbols:
        inputs.append(blank)
        targets.append(symbol)
    return inputs, targets


@pytest.mark.parametrize(
    ("delay", "memory", "symbols"), [(1, 1, 1), (5, 3, 4), (100, 10, 8)]
)
def test_copy_is_its_definition(delay, memory, symbols):
    tokens, targets = copy_task(6, delay, memory=memory, symbols=symbols, seed=2)
    assert tokens.dtype == targets.dtype == torch.int64
    for row, answer in zip(tokens.tolist(), targets.tolist(), strict=True):
        assert (row, answer) == copy_by_hand(row[:memory], delay, symbols)
        assert max(row[:memory]) < symbols


def test_copy_uses_all_symbols_and_has_the_length_of_the_paper():
    tokens, _ = copy_task(200, 50)
    assert tokens.shape == (200, 70)
    assert tokens[:, :10].unique().tolist() == list(range(8))


@pytest.mark.parametrize(
    "task", [lambda seed: adding_problem(5, 9, seed), lambda s: copy_task(5, 9, seed=s)]
)
def test_tasks_depend_on_the_seed_alone(task):
    state = torch.get_rng_state()
    first, second, other = task(1), task(1), task(2)
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adding_problem(0, 9), "n: expected a whole number >= 1, got 0"),
        (lambda: adding_problem(3, 1), "length: expected a whole number >= 2, got 1"),
        (lambda: adding_problem(3, 9, -1), "seed: expected a whole number >= 0, got"),
        (lambda: copy_task(0, 9), "n: expected a whole number >= 1, got 0"),
        (lambda: copy_task(3, 0), "delay: expected a whole number >= 1, got 0"),
        (lambda: copy_task(3, 9, memory=0), "memory: expected a whole number >= 1"),
        (lambda: copy_task(3, 9, symbols=0), "symbols: expected a whole number >= 1"),
    ],
)
def test_wrong_tasks(call, message):
    with pytest.raises(ValueError, match=message):
        call()


STUDENT_CDF = {
    1.0: lambda t: 0.5 + np.arctan(t) / math.pi,
    2.0: lambda t: 0.5 + t / (2 * np.sqrt(2 + t**2)),
    4.0: lambda t: 0.5 + 0.75 * (t**3 / 1.5 + 4 * t) / (4 + t**2) ** 1.5,
}


@pytest.mark.parametrize("nu", STUDENT_CDF)
def test_student_noise_has_students_distribution(nu):
    """Kolmogorov's distance to the closed form; 1.95 / sqrt(n) has level 0.001."""
    sample = np.sort(noise_of(40_000, nu).double().numpy())
    rank = (np.arange(len(sample)) + 0.5) / len(sample)
    assert np.abs(STUDENT_CDF[nu](sample) - rank).max() < 1.95 / 200


def test_student_noise_has_the_quantiles_of_numpy():
    theirs = np.random.default_rng(0).standard_t(1.5, 200_000)
    levels = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
    ours = np.quantile(noise_of(200_000, 1.5).numpy(), levels)
    np.testing.assert_allclose(ours, np.quantile(theirs, levels), rtol=0.04, atol=0.02)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_stable_noise_has_its_characteristic_function(alpha, scale):
    sample = noise_of(40_000, alpha, kind="stable", scale=scale).double()
    for t in (0.3, 1.0, 2.0):
        found = torch.cos(t * sample).mean().item()
        expected = math.exp(-((scale * t) ** alpha))
        assert abs(found - expected) < 3.5 / math.sqrt(len(sample))


@pytest.mark.parametrize("kind", ["student", "stable"])
def test_noise_is_symmetric_and_its_tail_falls_as_it_should(kind):
    sample = noise_of(400_000, 1.5, kind=kind)
    assert abs((sample > 0).float().mean() - 0.5) < 0.004
    near, far = ((sample.abs() > t).double().mean() for t in (20, 200))
    assert math.isclose(math.log10(near / far), 1.5, rel_tol=0.1)


def test_light_tails_are_normal():
    sample = noise_of(100_000, 1e6)
    assert abs(sample.var() - 1) < 0.02
    assert abs((sample**4).mean() - 3) < 0.15


@pytest.mark.parametrize("kind", ["student", "stable"])
def test_scale_multiplies_the_same_draws(kind):
    one, three = (noise_of((4, 5), 1.2, kind=kind, scale=s) for s in (1.0, 3.0))
    torch.testing.assert_close(three, 3 * one)
    assert one.dtype == torch.float32


def test_noise_takes_the_global_generator_when_none_is_given():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        free = heavy_tailed_noise(7)
    torch.testing.assert_close(free, noise_of(7, 1.5, seed=5))


@pytest.mark.parametrize("size", [0, 3, (2, 3), torch.Size([2, 0]), ()])
def test_shapes_of_noise(size):
    assert noise_of(size, 1.5).shape == torch.empty(size).shape


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "cauchy"}, ValueError, "kind: expected one of student, stable; got"),
        ({"tail_index": 0.0}, ValueError, "tail_index: expected a finite number > 0"),
        ({"tail_index": "2"}, TypeError, "tail_index: expected a finite number > 0"),
        (
            {"kind": "stable", "tail_index": 2.1},
            ValueError,
            r"tail_index: expected at most 2 for stable noise, got 2\.1\. Use kind=",
        ),
        (
            {"scale": -1.0},
            ValueError,
            r"scale: expected a finite number > 0, got -1\.0",
        ),
        ({"size": -1}, ValueError, "size: expected a whole number >= 0, got -1"),
        (
            {"size": (2, 0.5)},
            TypeError,
            "size: expected a whole number >= 0, got float",
        ),
    ],
)
def test_wrong_noise(arguments, error, message):
    with pytest.raises(error, match=message):
        heavy_tailed_noise(**{"size": 3, **arguments})


@pytest.mark.parametrize(("length", "vocab"), [(2, 1), (4, 3), (16, 16)])
def test_repeat_can_be_answered_from_half_a_length_before(length, vocab):
    inputs, targets = repeat_task(50, length, vocab=vocab, seed=3)
    half = length // 2
    assert inputs.shape == targets.shape == (50, length)
    assert (targets[:, :half] == -100).all()
    assert (targets[:, half:] == inputs[:, :half]).all()
    assert (targets[:, half:-1] == inputs[:, half + 1 :]).all()
    assert set(inputs.flatten().tolist()) == set(range(vocab))


def test_repeat_is_drawn_from_its_seed():
    a, b, c = (repeat_task(4, 8, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    with pytest.raises(ValueError, match="length: expected an even number, got 5"):
        repeat_task(4, 5)


def test_a_markov_chain_has_the_frequencies_of_its_transitions():
    generator = torch.Generator().manual_seed(0)
    law = torch.softmax(torch.randn(3, 3, 3, generator=generator), -1)
    tokens = markov_chain(4000, 20, law, seed=1)
    counts = torch.zeros(3, 3, 3)
    windows = tokens.unfold(1, 3, 1).reshape(-1, 3)
    counts.index_put_(tuple(windows.T), torch.ones(len(windows)), accumulate=True)
    found = counts / counts.sum(-1, keepdim=True)
    torch.testing.assert_close(found, law, atol=0.03, rtol=0)
    assert torch.equal(tokens, markov_chain(4000, 20, law, seed=1))


@pytest.mark.parametrize(
    "transitions",
    [
        torch.ones(3, 3),
        torch.full((2, 3), 1 / 3),
        torch.tensor([[2.0, -1.0], [0.5, 0.5]]),
        torch.eye(3).long(),
        torch.tensor(1.0),
    ],
)
def test_transitions_that_are_no_probabilities_are_refused(transitions):
    with pytest.raises(ValueError, match=r"along the last axis.*softmax\(-1\)"):
        markov_chain(2, 5, transitions)


def test_a_chain_shorter_than_its_order_is_refused():
    with pytest.raises(ValueError, match="length: expected a whole number >= 2, got 1"):
        markov_chain(2, 1, torch.full((2, 2, 2), 0.5))
