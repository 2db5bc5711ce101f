"""Train many small models at once: schemes, learning rates and seeds of a grid."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradlib.activations import ActivationLike, as_activation
from gradlib.checks import check_count, check_function, check_limit, check_positive
from gradlib.clip import Clip, as_clipper
from gradlib.initialization.schemes import initialize_
from gradlib.state import seeded
from gradlib.sweep.result import Run, SweepResult
from gradlib.sweep.stacked import StackedRuns
from gradlib.training.loop import Batch, LossFunction, groups_of_batches

_WANTED = (
    "model: expected a function that makes a new model at each call, got {}. Write "
    "for example partial(deep_mlp, 20, 64)."
)
Start = str | Callable[..., object] | None


def sweep(
    model: Callable[[], nn.Module],
    batches: Iterable[Batch],
    *,
    lrs: Sequence[float],
    seeds: Sequence[int] = (0,),
    schemes: Sequence[str] | Mapping[str, Start] | None = None,
    activation: ActivationLike = "relu",
    steps: int | None = None,
    loss_fn: LossFunction = F.cross_entropy,
    momentum: float = 0.0,
    clip: Clip | None = None,
    diverged_above: float | None = None,
) -> SweepResult:
    """Train a model with SGD for every scheme, learning rate and seed, all at once.

    v <- momentum v + g min(1, clip / ||g||),  w <- w - lr v

    Each run gives what `gradlib.fit` would give on its own, up to rounding: the
    weights of all runs are stacked, and `torch.func.vmap` makes one step of all of
    them, which for small models takes a fraction of the time. All runs see the same
    batches. A run diverges when its loss or gradient norm is not finite, or its loss
    above ``diverged_above``; it is then taken out and leaves the others alone.
    Dropout draws from torch's global random state.

    Args:
        model: Makes a new model at each call, such as ``partial(deep_mlp, 20, 64)``.
        batches: Pairs (inputs, targets), as for `gradlib.fit`.
        lrs: Learning rates, >= 0.
        seeds: Seeds of the initial weights; see `build`.
        schemes: Names of schemes of `gradlib.initialize_`; or a dictionary from
            labels to what `build` takes as ``start``. By default one scheme, "as
            made", which leaves the weights that ``model`` made.
        activation: For the gain of a scheme given by its name.
        steps: Number of steps; by default one pass over ``batches``.
        loss_fn: (outputs, targets) -> mean loss, a scalar.
        momentum: Of SGD, in [0, 1).
        clip: Bound of each run's gradient norm; or a function, called with the
            parameters of one run after the other, of which each run gets a copy.
        diverged_above: Largest sane loss, by default 1000 * max(first loss, 1) of
            each run; ``math.inf`` tests for finite numbers only.

    Returns:
        A `SweepResult`, which prints as a table.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument cannot be right, or ``batches`` ended early.

    Example:
        >>> from functools import partial
        >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        >>> line = [(x, x.sum(dim=1, keepdim=True))]
        >>> sweep(partial(nn.Linear, 4, 1), line, lrs=[0.001, 0.1, 10.0],
        ...       seeds=[0, 1], steps=100, loss_fn=F.mse_loss).best()
        Setting(scheme='as made', lr=0.1)
    """
    check_positive(momentum, "momentum", zero_ok=True, below=1.0)
    as_clipper(clip)
    check_limit(diverged_above, "diverged_above")
    check_function(loss_fn, "loss_fn")
    rates = [check_positive(lr, "lrs", zero_ok=True) for lr in _some(lrs, "lrs")]
    draws = [check_count(seed, "seeds", least=0) for seed in _some(seeds, "seeds")]
    starts, activation = _labeled(schemes), as_activation(activation)
    groups = groups_of_batches(batches, 1, steps)
    runs = tuple(Run(*parts) for parts in product(starts, rates, draws))
    models = {
        (label, seed): build(model, seed, start, activation=activation)
        for (label, start), seed in product(starts.items(), draws)
    }
    if len({id(made) for made in models.values()}) < len(models):
        raise ValueError(_WANTED.format("one that gives the same model again"))
    going = StackedRuns(models, runs, momentum, clip)
    rows: list[Tensor] = []
    diverged_at: list[int | None] = [None] * len(runs)
    for step, ((x, y),) in enumerate(groups):
        losses, norms = going.measure(x, y, loss_fn)
        if step == 0:
            going.limits = 1000.0 * losses.clamp(min=1.0)
            if diverged_above is not None:
                going.limits.fill_(diverged_above)
        row = torch.full((2, len(runs)), math.nan, dtype=torch.float64)
        row[:, going.index] = torch.stack([losses, norms]).to(row)
        rows.append(row)
        sane = losses.isfinite() & norms.isfinite() & (losses <= going.limits)
        if not sane.all():
            for run in going.index[~sane.cpu()].tolist():
                diverged_at[run] = step
            going.keep(sane.cpu())
        if len(going.index) == 0:
            break
        going.step()
    curves, norm_curves = torch.stack(rows, dim=2)
    return SweepResult(runs, curves, norm_curves, tuple(diverged_at))


def build(
    model: Callable[[], nn.Module],
    seed: int,
    start: Start = None,
    *,
    activation: ActivationLike = "relu",
) -> nn.Module:
    """The model with which `sweep` begins the runs of a seed and a scheme.

    Args:
        model: Makes a new model at each call.
        seed: For the draws of both ``model`` and ``start``.
        start: A scheme of `gradlib.initialize_`; or a function, called as
            ``start(model, generator=generator)``; or None, which leaves the weights
            as made.
        activation: For the gain of a scheme.

    Returns:
        The model, in training mode.

    Raises:
        TypeError: ``model`` is no function that makes a model.
        ValueError: the model has no trainable parameter, or the scheme is unknown.

    Example:
        >>> from functools import partial
        >>> layer = build(partial(nn.Linear, 2, 1), seed=0, start="he")
        >>> again = build(partial(nn.Linear, 2, 1), seed=0, start="he")
        >>> torch.equal(layer.weight, again.weight)
        True
    """
    if isinstance(model, nn.Module) or not callable(model):
        raise TypeError(_WANTED.format(type(model).__name__))
    with seeded(check_count(seed, "seed", least=0)):
        made = model()
    if not isinstance(made, nn.Module):
        raise TypeError(_WANTED.format(f"one that makes {type(made).__name__}"))
    if not any(p.requires_grad for p in made.parameters()):
        raise ValueError(
            "model: expected at least one trainable parameter, got "
            f"{type(made).__name__} without any"
        )
    generator = torch.Generator().manual_seed(seed)
    if isinstance(start, str):
        initialize_(made, start, activation=activation, generator=generator)
    elif start is not None:
        check_function(start, "start")
        start(made, generator=generator)
    return made.train()


def _labeled(schemes: Sequence[str] | Mapping[str, Start] | None) -> dict[str, Start]:
    if schemes is None:
        return {"as made": None}
    if isinstance(schemes, Mapping):
        return dict(_some(schemes.items(), "schemes"))
    return {name: name for name in _some(schemes, "schemes")}


def _some(values: Iterable[Any], name: str) -> list[Any]:
    """The values, if there is one or more and none comes twice."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected a list, got {values!r}. Write [{values!r}].")
    listed = list(values)
    if not listed or any(value in listed[:k] for k, value in enumerate(listed)):
        raise ValueError(f"{name}: expected one or more different values, got {listed}")
    return listed
