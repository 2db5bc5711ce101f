"""Checks of arguments that all modules share.

Arguments that cannot be right raise ``ValueError`` or ``TypeError``. Every message
says what was expected, what came, where, and what to do. Checks that need no torch
do not import it, so that histories and logs are read without it.
"""

import math
from collections.abc import Iterable
from typing import Any


def check_positive(
    value: float, name: str, *, zero_ok: bool = False, below: float = math.inf
) -> float:
    """Return ``value`` as a float if it is a finite number > 0 (or >= 0).

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: ``value`` is NaN, infinite, negative, zero without ``zero_ok``, or
            not below ``below``.

    Example:
        >>> check_positive(-1.0, "max_norm")
        Traceback (most recent call last):
        ...
        ValueError: max_norm: expected a finite number > 0, got -1.0
    """
    bound = (">= 0" if zero_ok else "> 0") + f" and < {below:g}" * (below < math.inf)
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(
            f"{name}: expected a finite number {bound}, got {type(value).__name__}"
        )
    number = float(value)
    sane = math.isfinite(number) and 0 <= number < below
    if not sane or (number == 0 and not zero_ok):
        raise ValueError(f"{name}: expected a finite number {bound}, got {value!r}")
    return number


def check_count(value: int, name: str, *, least: int = 1) -> int:
    """Return ``value`` if it is a whole number of at least ``least``.

    Raises:
        TypeError: ``value`` is not an integer.
        ValueError: ``value`` is smaller than ``least``.

    Example:
        >>> check_count(2.5, "depth")
        Traceback (most recent call last):
        ...
        TypeError: depth: expected a whole number >= 1, got float 2.5
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(
            f"{name}: expected a whole number >= {least}, "
            f"got {type(value).__name__} {value!r}"
        )
    number = int(value.__index__())
    if number < least:
        raise ValueError(f"{name}: expected a whole number >= {least}, got {number}")
    return number


def check_choice(value: Any, name: str, known: Iterable[str]) -> str:
    """Return ``value`` if it is one of the ``known`` names.

    Raises:
        ValueError: it is not; the message lists the known names.

    Example:
        >>> check_choice("rellu", "activation", ["relu", "tanh"])
        Traceback (most recent call last):
        ...
        ValueError: activation: expected one of relu, tanh; got 'rellu'
    """
    names = list(known)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name}: expected one of {', '.join(names)}; got {value!r}")
    return value


def check_limit(value: float | None, name: str) -> float | None:
    """Return ``value`` if it is None, a finite number > 0, or infinity.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: ``value`` is NaN or not > 0.

    Example:
        >>> check_limit(math.inf, "diverged_above")
        inf
    """
    return value if value is None or value == math.inf else check_positive(value, name)


def check_type(kind: Any, **values: object) -> None:
    """Refuse values that are not of a kind.

    Args:
        kind: A class, or several joined by ``|``.
        **values: The values by the names of their arguments.

    Raises:
        TypeError: one is of another class.

    Example:
        >>> import torch
        >>> check_type(torch.Tensor, x=torch.ones(2), y=[1.0])
        Traceback (most recent call last):
        ...
        TypeError: y: expected Tensor, got list
    """
    for name, value in values.items():
        if not isinstance(value, kind):
            wanted = getattr(kind, "__name__", str(kind))
            raise TypeError(f"{name}: expected {wanted}, got {type(value).__name__}")


def check_model(model: Any) -> None:
    """Refuse what is not a module, such as a class or a list of parameters.

    Raises:
        TypeError: ``model`` is no ``torch.nn.Module``.

    Example:
        >>> import torch
        >>> check_model(torch.nn.ReLU)
        Traceback (most recent call last):
        ...
        TypeError: model: expected a torch.nn.Module, got the class ReLU. Write ReLU().
    """
    from torch import nn

    if isinstance(model, nn.Module):
        return
    got = type(model).__name__
    if isinstance(model, type):
        got = f"the class {model.__name__}. Write {model.__name__}()."
    raise TypeError(f"model: expected a torch.nn.Module, got {got}")


def check_function(value: Any, name: str) -> None:
    """Refuse what cannot be called, and the class of a module.

    Raises:
        TypeError: ``value`` is not a function.

    Example:
        >>> check_function(0.5, "loss_fn")
        Traceback (most recent call last):
        ...
        TypeError: loss_fn: expected a function, got 0.5
    """
    if not callable(value):
        raise TypeError(f"{name}: expected a function, got {value!r:.80}")
    from torch import nn

    if isinstance(value, type) and issubclass(value, nn.Module):
        raise TypeError(
            f"{name}: expected a function, got the class {value.__name__}. Write "
            f"{value.__name__}()."
        )


def check_list(values: Any, name: str) -> list[Any]:
    """Return what ``values`` gives, one after the other.

    Raises:
        TypeError: ``values`` is not iterable.

    Example:
        >>> check_list(64, "widths")
        Traceback (most recent call last):
        ...
        TypeError: widths: expected several values, got 64. Write [64].
    """
    if not isinstance(values, Iterable):
        raise TypeError(
            f"{name}: expected several values, got {values!r:.80}. Write [{values!r}]."
        )
    return list(values)


def check_generator(generator: Any) -> None:
    """Refuse what random numbers cannot be drawn from.

    Raises:
        TypeError: ``generator`` is neither None nor a ``torch.Generator``.

    Example:
        >>> check_generator(0)
        Traceback (most recent call last):
        ...
        TypeError: generator: expected a torch.Generator or None, got 0. Write
        torch.Generator().manual_seed(0).
    """
    import torch

    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator: expected a torch.Generator or None, got {generator!r:.80}. "
            "Write torch.Generator().manual_seed(0)."
        )
