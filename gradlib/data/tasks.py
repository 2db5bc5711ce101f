"""Synthetic tasks: memory in time, sequences of tokens, and noise with heavy tails."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gradlib.checks import (
    check_choice,
    check_count,
    check_generator,
    check_positive,
    check_type,
)


def adding_problem(n: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sequences of random numbers, of which two are marked; the target is their sum.

    Each step has a number from U(0, 1) and a mark, 1 at one step of the first half
    and at one step of the second, else 0. A model that ignores its input does best
    with the answer 1 and then has a mean squared error of 1/6. This is the form of
    Arjovsky et al.; the original one has numbers from U(-1, 1) and lengths that vary.

    Args:
        n: Number of sequences.
        length: Steps in a sequence, >= 2.
        seed: The same seed gives the same sequences.

    Returns:
        Inputs, float32 of shape (n, length, 2): number and mark; and targets,
        float32 of shape (n, 1).

    Raises:
        ValueError: a count is too small.

    Example:
        >>> x, y = adding_problem(1000, length=20)
        >>> x.shape, round(((y - 1) ** 2).mean().item(), 2)
        (torch.Size([1000, 20, 2]), 0.17)

    References:
        Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735
        Arjovsky et al. 2016, https://arxiv.org/abs/1511.06464
    """
    check_count(n, "n")
    check_count(length, "length", least=2)
    generator = _generator(seed)
    numbers = torch.rand(n, length, generator=generator)
    half = length // 2
    early = torch.randint(half, (n, 1), generator=generator)
    late = torch.randint(half, length, (n, 1), generator=generator)
    marked = torch.cat([early, late], dim=1)
    marks = torch.zeros_like(numbers).scatter(1, marked, 1.0)
    targets = numbers.gather(1, marked).sum(dim=1, keepdim=True)
    return torch.stack([numbers, marks], dim=2), targets


def copy_task(
    n: int, delay: int, *, memory: int = 10, symbols: int = 8, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Symbols to be kept in mind over a delay and then repeated.

    With symbols a, b, c, a blank ``_``, a signal ``!``, memory 3 and delay 4:

        input   a b c _ _ _ ! _ _ _
        target  _ _ _ _ _ _ _ a b c

    A model without memory guesses the symbols and has a cross-entropy of
    memory * log(symbols) / (delay + 2 * memory) a step.

    Args:
        n: Number of sequences.
        delay: Steps between the last symbol and the first one repeated, >= 1.
        memory: Symbols to keep.
        symbols: Different symbols: the tokens 0 to symbols - 1. Then come the blank
            (``symbols``) and the signal (``symbols + 1``).
        seed: The same seed gives the same sequences.

    Returns:
        Inputs and targets, int64 of shape (n, delay + 2 * memory).

    Raises:
        ValueError: a count is too small.

    Example:
        >>> tokens, targets = copy_task(1, delay=4, memory=3)
        >>> tokens.tolist(), targets.tolist()
        ([[4, 7, 5, 8, 8, 8, 9, 8, 8, 8]], [[8, 8, 8, 8, 8, 8, 8, 4, 7, 5]])

    References:
        Arjovsky et al. 2016, https://arxiv.org/abs/1511.06464
    """
    check_count(n, "n")
    check_count(delay, "delay")
    check_count(memory, "memory")
    check_count(symbols, "symbols")
    kept = torch.randint(symbols, (n, memory), generator=_generator(seed))
    blanks = torch.full((n, delay + memory), symbols)
    signaled = blanks.clone()
    signaled[:, delay - 1] = symbols + 1
    return torch.cat([kept, signaled], dim=1), torch.cat([blanks, kept], dim=1)


def repeat_task(
    n: int, length: int, *, vocab: int = 16, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Random tokens whose second half repeats the first, for models of the next token.

    With length 4 and tokens a, b, c; -100 marks targets that do not count:

        input   a b c a
        target  _ _ a b

    A model that guesses has a cross-entropy of log(vocab) a token that counts.

    Args:
        n: Number of sequences.
        length: Tokens of an input; an even number >= 2.
        vocab: Number of different tokens.
        seed: The same seed gives the same sequences.

    Returns:
        Inputs and targets, int64 of shape (n, length).

    Raises:
        ValueError: a count is too small, or ``length`` is odd.

    Example:
        >>> tokens, targets = repeat_task(1, 4, vocab=10)
        >>> tokens.tolist(), targets.tolist()
        ([[4, 9, 3, 4]], [[-100, -100, 4, 9]])
    """
    check_count(n, "n")
    check_count(length, "length", least=2)
    check_count(vocab, "vocab")
    if length % 2:
        raise ValueError(f"length: expected an even number, got {length}")
    half = length // 2
    once = torch.randint(vocab, (n, half + 1), generator=_generator(seed))
    tokens = torch.cat([once, once], dim=1)
    targets = tokens[:, 1 : length + 1].clone()
    targets[:, :half] = -100
    return tokens[:, :length].clone(), targets


def markov_chain(n: int, length: int, transitions: Tensor, *, seed: int = 0) -> Tensor:
    """Sequences in which the next token depends on the last few, and on chance.

    Args:
        n: Number of sequences.
        length: Tokens of a sequence, at least the order of the chain.
        transitions: Probabilities of the next token, one axis of size vocab for each
            earlier token, oldest first, and one for the next: shape (vocab, vocab) for
            order 1, (vocab, vocab, vocab) for order 2.
        seed: The same seed gives the same sequences. The first tokens are uniform.

    Returns:
        Int64 of shape (n, length).

    Raises:
        TypeError: ``transitions`` is no tensor.
        ValueError: a count is too small, or ``transitions`` are no probabilities.

    Example:
        >>> forward = torch.eye(5).roll(1, dims=1)  # always the next token
        >>> markov_chain(1, 6, forward).tolist()
        [[4, 0, 1, 2, 3, 4]]
    """
    check_type(Tensor, transitions=transitions)
    order = transitions.ndim - 1
    sides = set(transitions.shape)
    sums = transitions.sum(-1) if order > 0 and len(sides) == 1 else torch.zeros(())
    near = bool(torch.isclose(sums, torch.ones_like(sums), atol=1e-4).all())
    if not near or (transitions < 0).any() or not transitions.is_floating_point():
        raise ValueError(
            "transitions: expected probabilities of shape (vocab, ..., vocab) that add "
            f"up to 1 along the last axis, got shape {tuple(transitions.shape)}. Apply "
            "softmax(-1)."
        )
    check_count(n, "n")
    check_count(length, "length", least=order)
    generator = _generator(seed)
    tokens = list(torch.randint(len(transitions), (order, n), generator=generator))
    while len(tokens) < length:
        chances = transitions.cpu()[tuple(tokens[-order:])]
        tokens.append(torch.multinomial(chances, 1, generator=generator)[:, 0])
    return torch.stack(tokens, dim=1)


def heavy_tailed_noise(
    size: int | Sequence[int],
    tail_index: float = 1.5,
    *,
    kind: str = "student",
    scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Symmetric noise whose large values are frequent.

    P(|x| > t) falls as t ** -tail_index. The variance is infinite for a tail index
    up to 2, the mean absolute value up to 1.

    Args:
        size: Shape of the noise.
        tail_index: Of ``"student"``: degrees of freedom, > 0; 1 is Cauchy's law, large
            values approach the normal law. Of ``"stable"``: alpha in (0, 2], with
            the characteristic function exp(-|scale t| ** alpha); 2 is a normal law
            of variance 2 * scale ** 2.
        kind: ``"student"`` or ``"stable"``; sums of stable noise stay stable.
        scale: Factor of the noise, > 0.
        generator: Source of the draws, by default torch's global one. The noise is
            drawn in double precision on its device.

    Returns:
        Float32 tensor of the given shape. Below a tail index of about 0.2 some values
        exceed its range and are infinite.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range, or ``kind`` unknown.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> noise = heavy_tailed_noise(10_000, 1.5, generator=generator)
        >>> bool(noise.abs().median() < 1), bool(noise.abs().max() > 100)
        (True, True)

    References:
        Bailey 1994 (Student), https://doi.org/10.2307/2153537
        Chambers et al. 1976 (stable), https://doi.org/10.1080/01621459.1976.10480344
        Zhang et al. 2020 (gradient noise), https://arxiv.org/abs/1912.03194
    """
    check_choice(kind, "kind", ["student", "stable"])
    check_generator(generator)
    check_positive(scale, "scale")
    tail = check_positive(tail_index, "tail_index")
    if kind == "stable" and tail > 2:
        raise ValueError(
            f"tail_index: expected at most 2 for stable noise, got {tail_index!r}. "
            "Use kind='student' for lighter tails."
        )
    sizes = size if isinstance(size, Sequence) else [size]
    shape = [check_count(side, "size", least=0) for side in sizes]
    device = torch.device("cpu") if generator is None else generator.device
    u, v = torch.rand(
        2, *shape, generator=generator, dtype=torch.float64, device=device
    )
    noise = _student(1 - u, v, tail) if kind == "student" else _stable(1 - u, v, tail)
    return (scale * noise).float()


def _student(u: Tensor, v: Tensor, nu: float) -> Tensor:
    """Bailey's polar method: a radius from u in (0, 1], an angle from v."""
    radius = torch.sqrt(nu * torch.expm1(-2 / nu * u.log()))
    return radius * torch.cos(2 * math.pi * v)


def _stable(u: Tensor, v: Tensor, alpha: float) -> Tensor:
    """The method of Chambers, Mallows and Stuck, for a symmetric law."""
    angle, exponential = math.pi * (v - 0.5), -u.log()
    tangent_like = torch.sin(alpha * angle) / torch.cos(angle) ** (1 / alpha)
    rest = torch.cos((1 - alpha) * angle) / exponential
    return tangent_like * rest ** ((1 - alpha) / alpha)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(check_count(seed, "seed", least=0))
