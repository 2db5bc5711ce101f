"""How every chapter of the book begins, and how it states what it found."""

import json
import math
import os
import platform
import random
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from gradlib.checks import check_count
from gradlib.tables import markdown_table


def base_seed() -> int:
    """The book's base seed: the environment variable ``GRADLIB_SEED``, else 0.

    Raises:
        ValueError: the variable is not a whole number >= 0.
    """
    text = os.environ.get("GRADLIB_SEED", "0")
    if not text.isdecimal():
        raise ValueError(
            f"GRADLIB_SEED: expected a whole number >= 0, got {text!r}. "
            "Unset it to use 0."
        )
    return int(text)


def begin(seed: int | None = None) -> int:
    """Seed everything, use one thread, and set the style of the figures.

    Small networks on a few cores run fastest with one thread each.

    Args:
        seed: Base seed; by default that of `base_seed`.

    Returns:
        The base seed, from which a chapter derives all others.

    Example:
        >>> begin(seed=3)
        3
    """
    from gradlib.plotting import use_style

    seed = base_seed() if seed is None else check_count(seed, "seed", least=0)
    if seed >= 2**32:
        raise ValueError(f"seed: expected less than 2^32, as numpy does, got {seed}")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # libraries that use the global state
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    use_style()
    return seed


def say(text: str) -> None:
    """Show Markdown with numbers from the run, as prose of the chapter.

    Example:
        >>> say("The norm grew **12-fold**.")
        <IPython.core.display.Markdown object>
    """
    from IPython.display import Markdown, display

    # Markdown(text) would open a file or an address of that name.
    shown = Markdown()  # type: ignore[no-untyped-call]
    shown.data = text
    display(shown)  # type: ignore[no-untyped-call]


def versions() -> None:
    """Show the versions in use, so that a report of a problem can name them."""
    names = ("torch", "numpy", "matplotlib")
    found = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    say(f"Run with Python {platform.python_version()}, {found}.")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Show rows from the run as a table of the chapter.

    Args:
        header: Column titles.
        rows: As many values each; shown by ``str``, so format numbers first.

    Raises:
        ValueError: a row is longer or shorter than the header.

    Example:
        >>> table(["seed", "loss"], [[0, 2.3], [1, 2.4]])
        <IPython.core.display.Markdown object>
    """
    say(markdown_table(header, rows))


def claim(
    statement: str,
    value: float,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    rival: Mapping[str, float] | None = None,
) -> None:
    """Assert that a measured value lies inside the bounds that the prose states.

    Prints the claim with its value, so that a reader sees how far it is from failing.
    If the environment variable ``GRADLIB_CLAIMS`` names a file, a line of JSON with
    the value and its margin is added to it.

    Args:
        statement: What is claimed, as a short sentence.
        value: The measured figure; NaN fails every claim. Infinity lies above any
            lower bound, unless there is an upper one.
        above: Lower bound, exclusive.
        below: Upper bound, exclusive.
        rival: What else might be true, with the figure that it gives: a constant
            answer, the run without the treatment, another law. Each must lie outside
            the bounds, or the claim would not tell the two apart. NaN lies outside.

    Raises:
        AssertionError: the value lies outside the bounds, or a rival inside.
        ValueError: no bound was given, or the bounds leave nothing.

    Example:
        >>> claim("the norm grows", 12.0, above=10, rival={"scale 1": 1.1})
        holds: the norm grows (12, above 10; not scale 1: 1.1)
    """
    value, above, below = float(value), float(above), float(below)
    if not above < below or (above == -math.inf and below == math.inf):
        raise ValueError(
            f"claim: expected bounds with above < below, got above={above}, "
            f"below={below}. Give at least one of them."
        )
    rivals = {name: float(figure) for name, figure in (rival or {}).items()}

    def inside(figure: float) -> bool:
        return above < figure and (figure < below or below == math.inf)

    bounds = [
        f"{word} {bound:.4g}"
        for word, bound in (("above", above), ("below", below))
        if math.isfinite(bound)
    ]
    beside = [f"not {name}: {figure:.4g}" for name, figure in rivals.items()]
    told = "; ".join([f"{value:.4g}, {' and '.join(bounds)}", *beside])
    told = f"{statement} ({told})"
    alike = [name for name, figure in rivals.items() if inside(figure)]
    holds = inside(value) and not alike
    log = os.environ.get("GRADLIB_CLAIMS")
    if log:
        record = {
            "claim": statement,
            "value": value,
            "above": above,
            "below": below,
            "rivals": rivals,
            "holds": holds,
        }
        with Path(log).open("a", encoding="utf8") as file:
            file.write(json.dumps(record) + "\n")
    if alike:
        raise AssertionError(
            f"cannot be told from {', '.join(alike)}: {told}. "
            "Narrow the bounds until the rival lies outside."
        )
    if not holds:
        raise AssertionError(f"does not hold: {told}")
    print(f"holds: {told}")
