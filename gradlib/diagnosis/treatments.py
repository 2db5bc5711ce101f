"""Small changes to a training: each makes one hypothesis false.

A treatment takes a :class:`TrainingSetup`, changes what it must (weights, hooks,
groups of the optimizer) and returns the setup to run. Nothing needs undoing here, not
even a hook: the caller saved the state of everything and restores it after the run.
The file is long because rules of all subjects share them; each stands alone.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradlib.diagnosis.evidence.function_calls import (
    DIFFERENCES,
    LOSSES,
    axis_cut,
)
from gradlib.diagnosis.nested import mapped, samples, tensors
from gradlib.diagnosis.training_setup import TrainingSetup
from gradlib.initialization.weight_layers import fan_in
from gradlib.measure.tensors import HALF_TYPES
from gradlib.state import parameters_of

Treatment = Callable[[TrainingSetup], TrainingSetup]

# Scores below are those of a mask.
MASKED = 1e3
LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def slower(factor: float) -> Treatment:
    """Divide every learning rate by ``factor`` (``math.inf``: no learning at all)."""
    return lambda setup: _with_rates(
        setup, lambda rates: [r * (1 / factor) for r in rates]
    )


TENTH_OF_RATE = "a learning rate 10 times smaller", slower(10.0)
"""A trial that several rules ask for, by one name, so that it is run once."""


def warmed(steps: int) -> Treatment:
    """Raise every learning rate linearly over the first ``steps`` updates."""

    def treat(setup: TrainingSetup) -> TrainingSetup:
        shares = chain((k / steps for k in range(1, steps)), repeat(1.0))

        def risen(rates: list[Any]) -> list[Any]:
            share = next(shares)
            return [rate * share for rate in rates]

        return _with_rates(setup, risen)

    return treat


def _with_rates(
    setup: TrainingSetup, changed: Callable[[list[Any]], list[Any]]
) -> TrainingSetup:
    """Step with other learning rates than those that the schedule sets and sees."""
    groups = setup.optimizer.param_groups
    kept: list[Any] = []

    def put(rates: list[Any]) -> None:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate

    def change(*_: Any) -> None:
        kept[:] = [group["lr"] for group in groups]
        put(changed(kept))

    setup.optimizer.register_step_pre_hook(change)
    setup.optimizer.register_step_post_hook(lambda *_: put(kept))
    return setup


def clipped(norm: float) -> Treatment:
    """Clip the joint gradient norm just before the optimizer's step."""

    def treat(setup: TrainingSetup) -> TrainingSetup:
        held = parameters_of(setup.optimizer)

        def clip(*_: Any) -> None:
            nn.utils.clip_grad_norm_(held, norm)

        setup.optimizer.register_step_pre_hook(clip)
        return setup

    return treat


def cleared(setup: TrainingSetup) -> TrainingSetup:
    """Clear all gradients before every update."""
    return replace(setup, before=(*setup.before, setup.model.zero_grad))


def optimizer_option(**values: Any) -> Treatment:
    """Set options in all groups of the optimizer that have them."""

    def treat(setup: TrainingSetup) -> TrainingSetup:
        for group in setup.optimizer.param_groups:
            group.update({k: v for k, v in values.items() if k in group})
        return setup

    return treat


def unscheduled(setup: TrainingSetup) -> TrainingSetup:
    """Leave the scheduler out."""
    return replace(setup, scheduler=None)


def averaged(count: int) -> Treatment:
    """Divide the loss by the number of its terms."""
    return lambda setup: replace(setup, loss_factor=1 / count)


def merged(size: int) -> Treatment:
    """Put neighboring batches together until each holds ``size`` samples."""

    def treat(setup: TrainingSetup) -> TrainingSetup:
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

    def treat(setup: TrainingSetup) -> TrainingSetup:
        first = tensors(setup.batches[0])[0]
        length = first.shape[1]
        keep = max(2, int(share * length))

        def cut(t: Tensor) -> Tensor:
            return t[:, :keep] if t.ndim > 1 and t.shape[1] == length else t

        return replace(setup, batches=[mapped(b, cut) for b in setup.batches])

    return treat


def reinitialized(gain: float, only: list[nn.Parameter] | None = None) -> Treatment:
    """Draw weights anew with standard deviation ``gain / sqrt(fan_in)``."""

    def treat(setup: TrainingSetup) -> TrainingSetup:
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
    return any(m.bias is parameter for m in model.modules() if isinstance(m, LAYERS))


def scaled(factor: float, parameters: list[nn.Parameter]) -> Treatment:
    """Multiply some parameters by a factor at the start."""

    def treat(setup: TrainingSetup) -> TrainingSetup:
        with torch.no_grad():
            for p in parameters:
                p.mul_(factor)
        return setup

    return treat


def redrawn(parameters: list[nn.Parameter]) -> Treatment:
    """Give some parameters normal values at the start, whatever they were."""

    def treat(setup: TrainingSetup) -> TrainingSetup:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in parameters:
                p.copy_(torch.randn(p.shape, generator=generator))
        return setup

    return treat


def filled(value: float, parameters: list[nn.Parameter]) -> Treatment:
    """Fill some parameters with one value at the start."""

    def treat(setup: TrainingSetup) -> TrainingSetup:
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


def normalized(setup: TrainingSetup) -> TrainingSetup:
    """Normalize the output of every layer but the last, sample by sample."""
    layers = [m for m in setup.model.modules() if isinstance(m, LAYERS)]

    def hook(module: nn.Module, _inputs: Any, y: Tensor) -> Tensor:
        return _normed(y, channels_last=isinstance(module, nn.Linear))

    for layer in layers[:-1]:
        layer.register_forward_hook(hook)
    return setup


def skipping(blocks: list[nn.Module]) -> Treatment:
    """Add to the input of every block its normalized output, where shapes agree."""

    def hook(_module: nn.Module, inputs: Any, y: Any) -> Any:
        x = inputs[0] if inputs else None
        if not isinstance(x, Tensor) or not isinstance(y, Tensor) or x.shape != y.shape:
            return y
        return x + _normed(y, channels_last=y.ndim < 4)

    def treat(setup: TrainingSetup) -> TrainingSetup:
        for block in blocks:
            block.register_forward_hook(hook)
        return setup

    return treat


def _normed(y: Tensor, *, channels_last: bool) -> Tensor:
    if channels_last:
        return F.layer_norm(y, y.shape[-1:])
    return F.group_norm(y, 1) if y.ndim > 2 else y


class Replaced(TorchFunctionMode):
    """Call other functions in place of some torch functions, found by name."""

    def __init__(
        self, other: dict[str, Callable[..., Any]], most: float = math.inf
    ) -> None:
        super().__init__()
        self.other = other
        self.left = most

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        other = self.other.get(getattr(func, "__name__", ""))
        if other is None or self.left < 1:
            return func(*args, **(kwargs or {}))
        self.left -= 1
        return other(*args, **(kwargs or {}))


def _leaky(x: Tensor, inplace: bool = False) -> Tensor:
    return F.leaky_relu(x, 0.1)


def _rectified(x: Tensor, **_: Any) -> Tensor:
    return torch.relu(x)


def using(**functions: Callable[..., Any]) -> Treatment:
    """Use other functions wherever the model or the loss calls the named ones."""
    return lambda setup: replace(
        setup, contexts=(*setup.contexts, lambda: Replaced(functions))
    )


leaky = using(relu=_leaky, relu_=_leaky)
bounded = using(relu=lambda x, **_: torch.tanh(x))


def rectified(most: int) -> Treatment:
    """Use ReLU for the first ``most`` calls of sigmoid and tanh in every update."""
    functions = {"sigmoid": _rectified, "tanh": _rectified}
    return lambda setup: replace(
        setup, contexts=(*setup.contexts, lambda: Replaced(functions, most))
    )


class OneShape(TorchFunctionMode):
    """Give what a loss compares one shape where both have as many values."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in DIFFERENCES and len(args) > 1:
            a, b, *rest = args
            both = isinstance(a, Tensor) and isinstance(b, Tensor)
            if both and a.numel() == b.numel() > 1 and a.shape != b.shape:
                args = (a, b.reshape(a.shape), *rest)
        return func(*args, **(kwargs or {}))


def one_shape(setup: TrainingSetup) -> TrainingSetup:
    """Compare every output with its own target only."""
    return replace(setup, contexts=(*setup.contexts, OneShape))


def another_axis(shape: tuple[int, ...], dim: int) -> Treatment:
    """Let the softmaxes of one shape and axis run over the longest other axis.

    The first axis holds the samples; it is taken only if there is no other.
    """
    others = [d for d in range(1, len(shape)) if d != dim] or [len(shape) - 1]
    chosen = max(others, key=lambda d: shape[d])

    def moved(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            given = args[0] if args else kwargs.get("dim")
            same = isinstance(given, int) and given % x.ndim == dim
            if same and tuple(x.shape[1:]) == shape[1:]:
                rest = {k: v for k, v in kwargs.items() if k != "dim"}
                return function(x, chosen, **rest)
            return function(x, *args, **kwargs)

        return call

    return using(softmax=moved(torch.softmax), log_softmax=moved(torch.log_softmax))


def capped(bound: float) -> Treatment:
    """Squeeze the scores of every attention into (-bound, bound), smoothly.

    A softmax counts as an attention if it has three axes or more. Scores that a mask
    made very low stay low.
    """

    def squeeze(x: Tensor) -> Tensor:
        return torch.where(x > -MASKED, bound * torch.tanh(x / bound), x)

    def softmax(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        given = squeeze(x) if x.ndim > 2 else x
        kwargs.pop("_stacklevel", None)
        return torch.softmax(given, *args[:1], **kwargs)

    def attention(
        q: Tensor, k: Tensor, v: Tensor, mask: Any = None, *rest: Any, **named: Any
    ) -> Tensor:
        size = (bound * q.shape[-1] ** 0.5) ** 0.5
        q, k = (F.normalize(t, dim=-1) * size for t in (q, k))
        mask = named.pop("attn_mask", mask)
        return F.scaled_dot_product_attention(q, k, v, mask, *rest, **named)

    return using(softmax=softmax, scaled_dot_product_attention=attention)


def held(parameters: list[nn.Parameter]) -> Treatment:
    """Put some parameters back to their start after every step."""

    def treat(setup: TrainingSetup) -> TrainingSetup:
        start = [p.detach().clone() for p in parameters]

        def back(*_: Any) -> None:
            with torch.no_grad():
                for p, value in zip(parameters, start, strict=True):
                    p.copy_(value)

        setup.optimizer.register_step_post_hook(back)
        return setup

    return treat


def steady_rates(setup: TrainingSetup) -> TrainingSetup:
    """Keep every learning rate at its largest value so far."""
    highest = [0.0] * len(setup.optimizer.param_groups)

    def steady(rates: list[Any]) -> list[Any]:
        highest[:] = map(max, highest, map(float, rates))
        return highest

    return _with_rates(setup, steady)


def rising_rates(setup: TrainingSetup) -> TrainingSetup:
    """Let every learning rate rise when the schedule lets it, and never fall."""
    reached = [0.0] * len(setup.optimizer.param_groups)
    last = list(reached)

    def risen(rates: list[Any]) -> list[Any]:
        for i, rate in enumerate(map(float, rates)):
            reached[i] += max(0.0, rate - last[i])
            last[i] = rate
        return reached

    return _with_rates(setup, risen)


def louder(factor: float) -> Treatment:
    """Multiply the loss before the backward pass."""
    return lambda setup: replace(setup, loss_factor=factor)


def divided_gradients(count: float) -> Treatment:
    """Divide every gradient just before the optimizer's step."""

    def treat(setup: TrainingSetup) -> TrainingSetup:
        held = parameters_of(setup.optimizer)

        def divide(*_: Any) -> None:
            for p in held:
                if p.grad is not None:
                    p.grad.div_(count)

        setup.optimizer.register_step_pre_hook(divide)
        return setup

    return treat


def thawed(setup: TrainingSetup) -> TrainingSetup:
    """Train the frozen parameters too, with the settings of the first group."""
    frozen = [p for p in setup.model.parameters() if not p.requires_grad]
    held_already = {id(p) for p in parameters_of(setup.optimizer)}
    for p in frozen:
        if p.is_floating_point():
            p.requires_grad_()
    new = [p for p in frozen if id(p) not in held_already and p.is_floating_point()]
    if new:
        first = setup.optimizer.param_groups[0]
        same = {k: v for k, v in first.items() if k not in ("params", "initial_lr")}
        setup.optimizer.add_param_group({"params": new, **same})
    return setup


def shuffled(setup: TrainingSetup) -> TrainingSetup:
    """Deal the samples of all batches anew."""
    columns = [tensors(batch) for batch in setup.batches]
    sizes = [len(column[0]) for column in columns]
    order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(0))
    whole = [torch.cat(list(part))[order] for part in zip(*columns, strict=True)]
    dealt = zip(*(torch.split(part, sizes) for part in whole), strict=True)
    batches = [
        _filled_with(batch, iter(parts))
        for batch, parts in zip(setup.batches, dealt, strict=True)
    ]
    return replace(setup, batches=batches)


def _filled_with(batch: Any, parts: Iterator[Tensor]) -> Any:
    return mapped(batch, lambda _: next(parts))


def rolled(index: int, dim: int, shift: int) -> Treatment:
    """Shift one tensor of every batch along an axis."""
    return new_tensor(index, lambda t: t.roll(shift, dim))


def repeated(setup: TrainingSetup) -> TrainingSetup:
    """Train on the first batch alone."""
    return replace(setup, batches=setup.batches[:1], max_steps=setup.steps)


def reversed_order(setup: TrainingSetup) -> TrainingSetup:
    """Give the last batch first."""
    return replace(setup, batches=setup.batches[::-1])


def from_the_middle(setup: TrainingSetup) -> TrainingSetup:
    """Give the second half of the batches first."""
    half = len(setup.batches) // 2
    return replace(setup, batches=setup.batches[half:] + setup.batches[:half])


def one_draw(setup: TrainingSetup) -> TrainingSetup:
    """Train on the first batch alone, with the same random numbers in every update."""

    def same() -> None:
        torch.default_generator.manual_seed(0)

    return replace(repeated(setup), before=(*setup.before, same))


def padding_first(index: int) -> Treatment:
    """Move the fill values at the ends of sequences to their beginnings."""

    def moved(t: Tensor) -> Tensor:
        lengths = real_lengths(t)
        places = torch.arange(t.shape[1]) - (t.shape[1] - lengths[:, None])
        places = places % t.shape[1]
        return t[torch.arange(len(t))[:, None], places]

    return new_tensor(index, moved)


def real_lengths(t: Tensor) -> Tensor:
    """Length of every sequence without the fill values at its end."""
    rows = t.flatten(2) if t.ndim > 2 else t[:, :, None]
    same = (rows == rows[:, -1:]).all(2)
    filled = same.flip(1).long().cumprod(1).sum(1)
    return t.shape[1] - torch.where(filled > 1, filled, 0)


def uncut(setup: TrainingSetup) -> TrainingSetup:
    """Move axes where the owner cuts them: split a width, then exchange axes."""

    def moved(name: str) -> Callable[..., Tensor]:
        def call(x: Tensor, *shape: Any, **named: Any) -> Tensor:
            made: Tensor = getattr(torch.Tensor, name)(x, *shape, **named)
            cut = axis_cut(tuple(x.shape), tuple(made.shape))
            if not x.requires_grad or cut is None:
                return made
            if cut == (2, 1):
                return x.transpose(1, 2).reshape(made.shape)
            swapped = (made.shape[0], made.shape[2], made.shape[1], *made.shape[3:])
            return x.reshape(swapped).transpose(1, 2)

        return call

    return using(view=moved("view"), reshape=moved("reshape"))(setup)


class Meter(TorchFunctionMode):
    """Write down the value of every loss function, and scale what it gives."""

    def __init__(self, factors: list[float] | None, read: list[list[float]]) -> None:
        super().__init__()
        self.factors = factors
        self.row: list[float] = []
        read.append(self.row)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in LOSSES and isinstance(result, Tensor):
            place = len(self.row)
            self.row.append(float(result.detach().mean()))
            if self.factors is not None and place < len(self.factors):
                return result * self.factors[place]
        return result


def metered(read: list[list[float]]) -> Treatment:
    """Write the terms of every update's loss into ``read``."""
    return lambda setup: replace(
        setup, contexts=(*setup.contexts, lambda: Meter(None, read))
    )


def balanced(factors: list[float], read: list[list[float]]) -> Treatment:
    """Multiply the terms of the loss, and write them down as they were before."""
    return lambda setup: replace(
        setup, contexts=(*setup.contexts, lambda: Meter(factors, read))
    )


def unclipped(setup: TrainingSetup) -> TrainingSetup:
    """Leave clipping out, also in the owner's update."""

    def no_clip(parameters: Any, *_: Any, **__: Any) -> Tensor:
        return torch.zeros(())

    @contextmanager
    def without() -> Iterator[None]:
        kept = nn.utils.clip_grad_norm_
        nn.utils.clip_grad_norm_ = no_clip
        try:
            yield
        finally:
            nn.utils.clip_grad_norm_ = kept

    return replace(setup, clip=None, contexts=(*setup.contexts, without))


def batch_first(setup: TrainingSetup) -> TrainingSetup:
    """Let recurrent and attention modules read (batch, time, feature)."""
    for module in setup.model.modules():
        if getattr(module, "batch_first", None) is False:
            module.batch_first = True  # type: ignore[assignment]
    return setup


def in_float32(setup: TrainingSetup) -> TrainingSetup:
    """Run everything in float32: no autocast, no half tensors."""
    for p in (*setup.model.parameters(), *setup.model.buffers()):
        if p.dtype in HALF_TYPES:
            p.data = p.data.float()

    def widen(t: Tensor) -> Tensor:
        return t.float() if t.dtype in HALF_TYPES else t

    def to(x: Any, *args: Any, **kwargs: Any) -> Any:
        wide = [torch.float32 if _is_low(a) else a for a in args]
        named = {k: torch.float32 if _is_low(v) else v for k, v in kwargs.items()}
        return x.to(*wide, **named)

    def as_float(x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x.float()

    functions = {"half": as_float, "bfloat16": as_float, "to": to}
    modes = (lambda: Replaced(functions), _no_autocast)
    batches = [mapped(b, widen) for b in setup.batches]
    return replace(setup, batches=batches, contexts=(*setup.contexts, *modes))


def _is_low(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value in HALF_TYPES


@contextmanager
def _no_autocast() -> Iterator[None]:
    original = torch.autocast.__enter__

    def enter(self: Any) -> Any:
        self._enabled = self._enabled and self.fast_dtype not in HALF_TYPES
        return original(self)  # type: ignore[no-untyped-call]

    torch.autocast.__enter__ = enter  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.autocast.__enter__ = original  # type: ignore[method-assign]
