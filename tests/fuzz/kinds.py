"""Kinds of arguments: what a function must take, and what it must refuse."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from draws import generator
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor, nn

from gradlib.activations import ACTIVATIONS, as_activation

NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Kind:
    """Values that are right for an argument, and values that cannot be right."""

    good: SearchStrategy[Any]
    bad: tuple[Any, ...] = ()

    def or_none(self) -> "Kind":
        """The same for an argument that may also be None."""
        wrong = tuple(value for value in self.bad if value is not None)
        return Kind(st.none() | self.good, wrong)


@dataclass(frozen=True)
class Entry:
    """How to call a public function with right and with wrong arguments.

    Args:
        call: The function, or one that uses a class.
        good: Draws all arguments.
        bad: For each argument that can be wrong, values that must be refused.
        errors: What right arguments may still raise, as documented.
        changes: What the call may change: "weights", "gradients" (values),
            "gradients to None", "random state", "style".
        named: A pattern for the name that a message uses instead of the argument's.
        slow: How many examples with a wrong argument for each with right ones.
    """

    call: Callable[..., object]
    good: SearchStrategy[dict[str, Any]]
    bad: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    errors: tuple[type[Exception], ...] = ()
    changes: frozenset[str] = frozenset()
    named: Mapping[str, str] = field(default_factory=dict)
    slow: int = 1


def entry(
    call: Callable[..., object],
    *,
    errors: tuple[type[Exception], ...] = (),
    changes: tuple[str, ...] = (),
    named: Mapping[str, str] | None = None,
    slow: int = 1,
    joint: SearchStrategy[dict[str, Any]] | None = None,
    **kinds: Kind,
) -> Entry:
    """An entry whose arguments are drawn by themselves, besides those of ``joint``."""
    drawn = {name: kind.good for name, kind in kinds.items() if not kind.good.is_empty}
    each = st.fixed_dictionaries(drawn)
    good = each if joint is None else st.builds(lambda a, b: {**a, **b}, each, joint)
    bad = {name: kind.bad for name, kind in kinds.items() if kind.bad}
    return Entry(call, good, bad, errors, frozenset(changes), named or {}, slow)


def refused(*values: Any) -> Kind:
    """The wrong values of an argument that a joint strategy draws."""
    return Kind(st.nothing(), values)


def number(low: float, high: float, *bad: Any) -> Kind:
    return Kind(st.floats(low, high), (*bad, NAN, INF, -INF, "1", None, [1.0], 1j))


def positive(low: float = 1e-3, high: float = 1e3) -> Kind:
    return number(low, high, 0.0, -1.0, -1e-9)


def not_negative(high: float = 1e3) -> Kind:
    zero = Kind(st.just(0.0) | st.floats(1e-6, high))
    return Kind(zero.good, number(0, high, -1.0, -1e-9).bad)


def below_one() -> Kind:
    return Kind(st.floats(0, 0.999), number(0, 1, -0.1, 1.0, 2.0).bad)


def count(least: int, most: int) -> Kind:
    wrong = (least - 1, -7, 1.5, float(least), "2", None, NAN, [2])
    return Kind(st.integers(least, most), wrong)


def choice(*names: str) -> Kind:
    return Kind(st.sampled_from(names), ("no such name", "", 7, None))


FLAG = Kind(st.booleans())
TEXT = Kind(st.text(max_size=8))
SEED = count(0, 2**40)


# Functions that draw from a generator leave torch's own random state alone.
GENERATOR = Kind(st.builds(generator, st.integers(0, 99)), (7, "seed"))

FORMS = [
    *ACTIVATIONS,
    torch.sin,
    nn.Tanh(),
    nn.LeakyReLU(0.3),
    as_activation("gelu"),
    lambda x: x + x**3,
]
NO_ACTIVATION = ("rellu", 7, None, nn.ReLU, ["relu"])
ACTIVATION = Kind(st.sampled_from(FORMS), NO_ACTIVATION)
# Those whose second moments are finite and not zero for any variance.
NAMED = Kind(st.sampled_from(sorted(ACTIVATIONS)), NO_ACTIVATION)

SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=3)


def randn(shape: list[int], seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=generator(seed))


TENSOR = Kind(
    st.builds(randn, SIZES, st.integers(0, 99), st.sampled_from([0.0, 1e-9, 1.0, 1e9])),
    (7, "x", None, [1.0]),
)


def matrix(rows: int, columns: int, seed: int, scale: float) -> Tensor:
    return randn([rows, columns], seed, scale)


NO_MATRIX = (
    7, None, torch.ones(3), torch.ones(0, 0), torch.full((2, 2), NAN),
    torch.full((2, 2), INF),
)  # fmt: skip
SIDES, SCALES = st.integers(1, 5), st.sampled_from([0.0, 1e-6, 0.5, 1.0, 100.0])
MATRIX = st.builds(matrix, SIDES, SIDES, st.integers(0, 99), SCALES)


# Gradients as they come: missing, zero, tiny, huge, broken.
SIZE_OF_GRADIENT = st.sampled_from([None, 0.0, 1e-30, 1e-3, 1.0, 1e6, 1e30, NAN, INF])
FINITE_GRADIENT = st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e6, 1e30])


def parameter(
    shape: list[int], seed: int, size: float | None, dtype: torch.dtype
) -> nn.Parameter:
    made = nn.Parameter(randn(shape, seed).to(dtype))
    if size is not None:
        made.grad = (randn(shape, seed + 1).double() * size).to(dtype)
    return made


TYPES = st.sampled_from([torch.float32, torch.float32, torch.float64, torch.bfloat16])
OWNERS = st.lists(
    st.builds(parameter, SIZES, st.integers(0, 99), SIZE_OF_GRADIENT, TYPES),
    min_size=1,
    max_size=4,
)


def in_a_form(parameters: list[nn.Parameter], form: str) -> object:
    named = [(f"layer.{k}", p) for k, p in enumerate(parameters)]
    forms = {"list": parameters, "named": named, "one": parameters[0]}
    return forms[form] if form in forms else iter(parameters)


NO_PARAMETERS = (
    [], 7, None, "ab", [7], [None], nn.Linear(2, 1), [("a", 7)], iter([]),
)  # fmt: skip
PARAMETERS = Kind(
    st.builds(
        in_a_form, OWNERS, st.sampled_from(["list", "named", "one", "generator"])
    ),
    NO_PARAMETERS,
)

# For objects that are called with the same parameters again and again.
SAME_PARAMETERS = Kind(
    st.builds(in_a_form, OWNERS, st.sampled_from(["list", "named", "one"])),
    NO_PARAMETERS,
)


FEATURES, CLASSES = 3, 2


def layers(kind: str) -> list[nn.Module]:
    middle: dict[str, list[nn.Module]] = {
        "plain": [nn.ReLU()],
        "tanh": [nn.Tanh()],
        "batch": [nn.BatchNorm1d(4), nn.ReLU()],
        "dropout": [nn.Dropout(0.5), nn.ReLU()],
        "layer": [nn.LayerNorm(4), nn.GELU()],
    }
    return [nn.Linear(FEATURES, 4), *middle[kind], nn.Linear(4, CLASSES)]


def network(
    kind: str, seed: int, size: float | None, training: bool, frozen: bool
) -> nn.Module:
    """A small net in any state that a caller may have left it in."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = nn.Sequential(*layers(kind)).train(training)
    model[0].bias.requires_grad_(not frozen)
    if size is not None:
        for p in model.parameters():
            p.grad = torch.full_like(p, size) if p.requires_grad else None
    return model


KINDS_OF_NET = st.sampled_from(["plain", "tanh", "batch", "dropout", "layer"])
SMALL_SEED = st.integers(0, 99)
NETWORK = st.builds(
    network, KINDS_OF_NET, SMALL_SEED, SIZE_OF_GRADIENT, st.booleans(), st.booleans()
)
NO_MODEL = (7, None, "net", nn.Linear, [nn.Linear(2, 1)])
MODEL = Kind(NETWORK, NO_MODEL)


def pair(n: int, seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """A batch of inputs and classes."""
    source = generator(seed)
    x = scale * torch.randn(n, FEATURES, generator=source)
    return x, torch.randint(CLASSES, (n,), generator=source)


PAIR = st.builds(pair, st.integers(2, 5), SMALL_SEED, st.sampled_from([0.1, 1.0, 30.0]))
PAIRS = st.lists(PAIR, min_size=1, max_size=3)
NO_BATCHES = ([], 7, None, [1], [(1, 2, 3)], iter([]))
BATCHES = Kind(PAIRS, NO_BATCHES)
INPUTS = Kind(st.builds(lambda batch: batch[0], PAIR), (7, None, "x", [1.0]))
