"""Small changes to a training: each makes one hypothesis false.

A treatment takes a :class:`Setup`, changes what it must (weights, hooks, groups of
the optimizer) and returns the setup to run. Nothing needs undoing here: the caller
holds a snapshot of everything and restores it after the run.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradlib.diagnosis.setup import Setup, mapped, samples, tensors

Treatment = Callable[[Setup], Setup]


def slower(factor: float) -> Treatment:
    """Divide every learning rate by ``factor`` (``math.inf``: no learning at all)."""
    return lambda setup: _with_rates(setup, lambda _step: 1 / factor)


def warmed(steps: int) -> Treatment:
    """Raise every learning rate linearly over the first ``steps`` updates."""
    return lambda setup: _with_rates(setup, lambda step: min(1.0, (step + 1) / steps))


def _with_rates(setup: Setup, factor: Callable[[int], float]) -> Setup:
    groups = setup.optimizer.param_groups
    kept: list[Any] = []
    count = [0]

    def lower(*_: Any) -> None:
        kept[:] = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr"] * factor(count[0])
        count[0] += 1

    def back(*_: Any) -> None:
        for group, rate in zip(groups, kept, strict=True):
            group["lr"] = rate

    setup.optimizer.register_step_pre_hook(lower)
    setup.optimizer.register_step_post_hook(back)
    return setup


def clipped(norm: float) -> Treatment:
    """Clip the joint gradient norm just before the optimizer's step."""

    def treat(setup: Setup) -> Setup:
        held = [p for g in setup.optimizer.param_groups for p in g["params"]]

        def clip(*_: Any) -> None:
            nn.utils.clip_grad_norm_(held, norm)

        setup.optimizer.register_step_pre_hook(clip)
        return setup

    return treat


def cleared(setup: Setup) -> Setup:
    """Clear all gradients before every update."""
    return replace(setup, before=(*setup.before, setup.model.zero_grad))


def option(**values: Any) -> Treatment:
    """Set options in all groups of the optimizer that have them."""

    def treat(setup: Setup) -> Setup:
        for group in setup.optimizer.param_groups:
            group.update({k: v for k, v in values.items() if k in group})
        return setup

    return treat


def unscheduled(setup: Setup) -> Setup:
    """Leave the scheduler out."""
    return replace(setup, scheduler=None)


def adopting(parameters: list[nn.Parameter]) -> Treatment:
    """Give further parameters to the optimizer."""

    def treat(setup: Setup) -> Setup:
        setup.optimizer.add_param_group({"params": parameters})
        return setup

    return treat


def averaged(count: int) -> Treatment:
    """Divide the loss by the number of its terms."""
    return lambda setup: replace(setup, loss_factor=1 / count)


def merged(size: int) -> Treatment:
    """Put neighbouring batches together until each holds ``size`` samples."""

    def treat(setup: Setup) -> Setup:
        count = -(-size // samples(setup.batches[0]))
        total = len(setup.batches)
        joined = [
            _joined([setup.batches[(start + k) % total] for k in range(count)])
            for start in range(0, total, max(1, count // 4))
        ]
        return replace(setup, batches=joined, max_steps=setup.steps)

    return treat


def _joined(parts: list[Any]) -> Any:
    columns = [tensors(part) for part in parts]
    whole = iter([torch.cat(list(column)) for column in zip(*columns, strict=True)])
    return mapped(parts[0], lambda _: next(whole))


def shortened(share: float) -> Treatment:
    """Cut every sequence (second axis of 16 or more) to its beginning."""

    def treat(setup: Setup) -> Setup:
        first = tensors(setup.batches[0])[0]
        length = first.shape[1]
        keep = max(2, int(share * length))

        def cut(t: Tensor) -> Tensor:
            return t[:, :keep] if t.ndim > 1 and t.shape[1] == length else t

        return replace(setup, batches=[mapped(b, cut) for b in setup.batches])

    return treat


def fan_in(parameter: Tensor) -> int:
    """Number of values that one output unit sums."""
    return max(1, parameter[0].numel()) if parameter.ndim > 1 else 1


def reinitialised(gain: float, only: list[nn.Parameter] | None = None) -> Treatment:
    """Draw weights anew with standard deviation ``gain / sqrt(fan_in)``."""

    def treat(setup: Setup) -> Setup:
        generator = torch.Generator().manual_seed(0)
        tables = {
            id(m.weight) for m in setup.model.modules() if isinstance(m, nn.Embedding)
        }
        with torch.no_grad():
            for p in only if only is not None else list(setup.model.parameters()):
                if p.ndim > 1 and (only is not None or id(p) not in tables):
                    noise = torch.randn(p.shape, generator=generator)
                    p.copy_(noise * gain / fan_in(p) ** 0.5)
                elif only is not None:
                    p.div_(p.float().pow(2).mean().sqrt())
                elif p.ndim == 1 and _is_bias(setup.model, p):
                    p.zero_()
        return setup

    return treat


def _is_bias(model: nn.Module, parameter: nn.Parameter) -> bool:
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return any(m.bias is parameter for m in model.modules() if isinstance(m, kinds))


def scaled(factor: float, parameters: list[nn.Parameter]) -> Treatment:
    """Multiply some parameters by a factor at the start."""

    def treat(setup: Setup) -> Setup:
        with torch.no_grad():
            for p in parameters:
                p.mul_(factor)
        return setup

    return treat


def filled(value: float, parameters: list[nn.Parameter]) -> Treatment:
    """Fill some parameters with one value at the start."""

    def treat(setup: Setup) -> Setup:
        with torch.no_grad():
            for p in parameters:
                p.fill_(value)
        return setup

    return treat


def new_tensor(index: int, change: Callable[[Tensor], Tensor]) -> Treatment:
    """Change one tensor of every batch, and whatever is the same tensor."""

    def changed(batch: Any) -> Any:
        chosen = tensors(batch)[index]
        new = change(chosen)
        return mapped(batch, lambda t: new if t is chosen else t)

    return lambda setup: replace(setup, batches=[changed(b) for b in setup.batches])


def both(first: Treatment, second: Treatment) -> Treatment:
    """One treatment after the other."""
    return lambda setup: second(first(setup))


def normalised(setup: Setup) -> Setup:
    """Normalise the output of every layer but the last, sample by sample."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    layers = [m for m in setup.model.modules() if isinstance(m, kinds)]

    def hook(module: nn.Module, _inputs: Any, y: Tensor) -> Tensor:
        return _normed(y, channels_last=isinstance(module, nn.Linear))

    for layer in layers[:-1]:
        layer.register_forward_hook(hook)
    return setup


def skipping(blocks: list[nn.Module]) -> Treatment:
    """Add to the input of every block its normalised output, where shapes agree."""

    def hook(_module: nn.Module, inputs: Any, y: Any) -> Any:
        x = inputs[0] if inputs else None
        if not isinstance(x, Tensor) or not isinstance(y, Tensor) or x.shape != y.shape:
            return y
        return x + _normed(y, channels_last=y.ndim < 4)

    def treat(setup: Setup) -> Setup:
        for block in blocks:
            block.register_forward_hook(hook)
        return setup

    return treat


def _normed(y: Tensor, *, channels_last: bool) -> Tensor:
    if channels_last:
        return F.layer_norm(y, y.shape[-1:])
    return F.group_norm(y, 1) if y.ndim > 2 else y
