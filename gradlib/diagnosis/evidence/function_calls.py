"""Calls of softmax and of loss functions in one update, with what went in."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradlib.diagnosis.nested import tensors

SOFTMAXES = {"softmax", "log_softmax"}
REGRESSION = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}
BINARY = {"binary_cross_entropy", "binary_cross_entropy_with_logits"}
LOSSES = {"cross_entropy", "nll_loss", *REGRESSION, *BINARY}
PRODUCTS = {"mul", "__mul__", "__rmul__", "multiply"}
DIFFERENCES = {"sub", "rsub", "__sub__", "__rsub__", "subtract", *REGRESSION}
NORMS = {"layer_norm", "group_norm", "rms_norm"}
LOGARITHMS = {"kl_div", "nll_loss"}
RESHAPES = {"view", "reshape"}
IGNORED = -100
# Scores beyond it make a softmax that is one-hot to a part in 10,000.
ONE_HOT = 0.9999
# Rows of a softmax that are looked at.
MOST_ROWS = 4096


@dataclass
class SoftmaxCall:
    """One softmax.

    Args:
        layer: Where.
        shape: Shape of the scores.
        dim: The axis it runs over, counted from 0.
        largest: Largest distance of a score from the mean of its row.
        hot: Share of rows that are one-hot.
        learned: The scores depend on parameters.
    """

    layer: str
    shape: tuple[int, ...]
    dim: int
    largest: float = 0.0
    hot: float = 0.0
    learned: bool = True


@dataclass
class LossCall:
    """One call of a loss function.

    Args:
        function: Its name.
        output: What the model put out, detached.
        target: What it was compared with.
        ignored: The class that does not count.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        value: The mean of what it returned.
        weight: Gradient that reached what it returned, summed over its values.
        reached: Gradient that reached each value of the output, or None.
        result: What it returned, with its graph, where that is kept.
    """

    function: str
    output: Tensor
    target: Tensor
    ignored: int = IGNORED
    reduction: str = "mean"
    value: float = math.nan
    weight: float = math.nan
    reached: Tensor | None = None
    result: Tensor | None = None

    @property
    def terms(self) -> int:
        """Targets that count; shares of classes count as one."""
        if self.target.is_floating_point():
            classes = self.target.shape[min(1, self.target.ndim - 1)]
            shares = self.function == "cross_entropy"
            return self.target.numel() // (classes if shares else 1)
        return int((self.target != self.ignored).sum())


@dataclass
class Pairing:
    """Two tensors with equally many values whose difference has more.

    Args:
        function: The operation.
        layer: Where.
        shapes: Shapes of both.
        made: Shape of the result, or of what it is a mean of.
    """

    function: str
    layer: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    made: tuple[int, ...]


@dataclass
class Cut:
    """A change of shape that leaves the values in place and an axis elsewhere.

    Args:
        layer: Where.
        before: The shape.
        after: The new shape.
        axes: Place of the axis of one length, before and after.
    """

    layer: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    axes: tuple[int, int]


@dataclass
class FunctionCalls:
    """What one update called.

    Args:
        softmaxes: All softmaxes.
        losses: All loss functions.
        pairings: Differences that pair every value with every other.
        lonely_norms: Where a normalization ran over a single value.
        not_logarithms: Function that expects logarithms of probabilities -> the
            largest value that it got, where that is above 0.
        cuts: Changes of shape that cut an axis and put it elsewhere.
        samplings: How often something was drawn from learned probabilities.
        keep: Keep what losses returned, with their graphs.
    """

    softmaxes: list[SoftmaxCall] = field(default_factory=list)
    losses: list[LossCall] = field(default_factory=list)
    pairings: list[Pairing] = field(default_factory=list)
    lonely_norms: list[str] = field(default_factory=list)
    not_logarithms: dict[str, float] = field(default_factory=dict)
    cuts: list[Cut] = field(default_factory=list)
    samplings: int = 0
    whole_norms: list[str] = field(default_factory=list)
    keep: bool = False

    def note(self, name: str, layer: str, args: Any, kwargs: Any, result: Any) -> None:
        """Look at one call; what raises here is not worth an error."""
        kwargs = kwargs or {}
        if name in NORMS:
            self._norm(name, layer, args, kwargs)
        elif name in LOGARITHMS:
            self._logarithm(name, args, kwargs)
        elif name in RESHAPES and isinstance(result, Tensor):
            self._reshape(layer, args[0], result)
        elif name == "multinomial":
            self.samplings += 1
        if name in DIFFERENCES or (name in PRODUCTS and _column_by_row(args)):
            self._pairing(name, layer, args, kwargs)
        if name == "norm" and _whole(args, kwargs):
            self.whole_norms.append(layer)
        if name in SOFTMAXES:
            self._softmax(layer, args, kwargs)
        elif name == "scaled_dot_product_attention":
            self._attention(layer, args, kwargs)
        elif name in LOSSES and isinstance(result, Tensor):
            self._loss(name, args, kwargs, result)

    def _norm(self, name: str, layer: str, args: Any, kwargs: Any) -> None:
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, Tensor) or x.numel() < 2:
            return
        if name == "group_norm":
            groups = args[1] if len(args) > 1 else kwargs.get("num_groups")
            size = x[0].numel() // groups
        else:
            shape = args[1] if len(args) > 1 else kwargs.get("normalized_shape")
            size = math.prod(shape)
        if size == 1 and name != "rms_norm":
            self.lonely_norms.append(layer)

    def _logarithm(self, name: str, args: Any, kwargs: Any) -> None:
        given = args[0] if args else kwargs.get("input")
        if isinstance(given, Tensor) and given.numel():
            largest = float(given.detach().float().max())
            if largest > 0:
                self.not_logarithms[name] = largest

    def _reshape(self, layer: str, given: Tensor, made: Tensor) -> None:
        cut = axis_cut(tuple(given.shape), tuple(made.shape))
        if given.requires_grad and cut is not None:
            self.cuts.append(Cut(layer, tuple(given.shape), tuple(made.shape), cut))

    def _softmax(self, layer: str, args: Any, kwargs: Any) -> None:
        x = args[0] if args else kwargs.get("input")
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        if not isinstance(x, Tensor) or not isinstance(dim, int) or not x.ndim:
            return
        call = SoftmaxCall(layer, tuple(x.shape), dim % x.ndim, learned=x.requires_grad)
        self._measure(call, x.detach().movedim(dim, -1))
        self.softmaxes.append(call)

    def _attention(self, layer: str, args: Any, kwargs: Any) -> None:
        query, key = (
            args[i] if len(args) > i else kwargs.get(name)
            for i, name in enumerate(("query", "key"))
        )
        if not isinstance(query, Tensor) or not isinstance(key, Tensor):
            return
        scores = query.detach()[:4].float() @ key.detach()[:4].float().transpose(-1, -2)
        scale = kwargs.get("scale") or query.shape[-1] ** -0.5
        shape = (*query.shape[:-1], key.shape[-2])
        call = SoftmaxCall(layer, shape, len(shape) - 1, learned=query.requires_grad)
        self._measure(call, scores * scale)
        self.softmaxes.append(call)

    @staticmethod
    def _measure(call: SoftmaxCall, scores: Tensor) -> None:
        rows = scores.float().reshape(-1, scores.shape[-1])[:MOST_ROWS]
        if rows.shape[0] * rows.shape[1] == 0:
            return
        kept = rows.isfinite() & (rows > -1e4)
        count = kept.sum(1, keepdim=True).clamp_min(1)
        filled = torch.where(kept, rows, 0.0)
        away = torch.where(
            kept, (rows - filled.sum(1, keepdim=True) / count).abs(), 0.0
        )
        call.largest = float(away.max())
        several = kept.sum(1) > 1
        hot = rows.softmax(1).amax(1) > ONE_HOT
        call.hot = float((hot & several).sum() / several.sum().clamp_min(1))

    def _pairing(self, name: str, layer: str, args: Any, kwargs: Any) -> None:
        given = [t for t in (*args[:2], *kwargs.values()) if isinstance(t, Tensor)]
        if len(given) != 2 or given[0].requires_grad == given[1].requires_grad:
            return
        a, b = given
        if a.numel() != b.numel() or a.numel() < 2 or a.shape == b.shape:
            return
        try:
            made = torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
        except RuntimeError:
            return
        if math.prod(made) > a.numel():
            shapes = (tuple(a.shape), tuple(b.shape))
            self.pairings.append(Pairing(name, layer, shapes, tuple(made)))

    def _loss(self, name: str, args: Any, kwargs: Any, result: Tensor) -> None:
        given = [*args, *kwargs.values()]
        if len(tensors(given)) < 2:
            return
        output = args[0] if args else kwargs["input"]
        target = args[1] if len(args) > 1 else kwargs["target"]
        call = LossCall(
            name,
            output.detach(),
            target.detach(),
            kwargs.get("ignore_index", IGNORED),
            kwargs.get("reduction", "mean"),
            float(result.detach().float().mean()),
        )
        self.losses.append(call)
        call.result = result if self.keep else None
        if result.requires_grad:
            result.register_hook(lambda g: _weigh(call, g))  # type: ignore[no-untyped-call]
        if output.requires_grad:
            output.register_hook(lambda g: _reach(call, g))


def _column_by_row(args: Any) -> bool:
    """Whether n values in a column meet n values in a row."""
    shapes = [tuple(a.shape) for a in args[:2] if isinstance(a, Tensor)]
    if len(shapes) < 2:
        return False
    column, row = sorted(shapes, key=len, reverse=True)
    return len(row) == 1 and column == (row[0], 1)


def _whole(args: Any, kwargs: Any) -> bool:
    """Whether a norm takes all values of a batch of features that are learned."""
    x = args[0] if args else None
    if not isinstance(x, Tensor) or x.ndim != 2 or len(x) < 2 or x.is_leaf:
        return False
    return x.requires_grad and len(args) < 3 and kwargs.get("dim") is None


def axis_cut(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, int] | None:
    """An axis that a change of shape puts elsewhere without moving its values.

    It has one length before and after, which nothing else has, and another number of
    values stands before it.

    Example:
        >>> axis_cut((8, 10, 12), (8, 3, 10, 4)), axis_cut((8, 10, 12), (8, 10, 3, 4))
        ((1, 2), None)
    """
    if len(before) < 3 or len(after) < 3 or before[0] != after[0]:
        return None
    for i, length in enumerate(before[1:], 1):
        if length < 2 or before.count(length) > 1 or after.count(length) != 1:
            continue
        j = after.index(length)
        if math.prod(before[:i]) != math.prod(after[:j]) and {i, j} == {1, 2}:
            return i, j
    return None


def _weigh(call: LossCall, gradient: Tensor | None) -> None:
    call.weight = 0.0 if gradient is None else float(gradient.sum())


def _reach(call: LossCall, gradient: Tensor | None) -> None:
    call.reached = None if gradient is None else gradient.detach().clone()
