"""Look into single updates: layers, activations and where values stop being finite."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

from gradlib.diagnosis.evidence.function_calls import (
    DIFFERENCES,
    LOGARITHMS,
    LOSSES,
    NORMS,
    PRODUCTS,
    RESHAPES,
    SOFTMAXES,
    FunctionCalls,
)
from gradlib.diagnosis.evidence.loss_graph import linear_nodes, nodes_of, short_name
from gradlib.diagnosis.nested import tensors
from gradlib.hooks import Hooks

SQUASHING = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "hardtanh": (-1.0, 1.0)}
# Share of the range next to a limit that counts as flat: there a slope is below 4 %.
FLAT = 0.01
RECTIFYING = {"relu", "relu_", "relu6"}
HALF = torch.float16
ARITHMETIC = {"float", "to", "type", "double", "eq", "ne", "__eq__", "__ne__", "sub"}
ARITHMETIC |= {"mul", "add", "__sub__", "__mul__", "__add__", "__rsub__", "__rmul__"}
SUMS = {"add", "sub", "__add__", "__radd__", "__sub__", "__rsub__", "add_", "__iadd__"}


# Functions that put infinities where the owner wants them: masks.
MASKING = {"masked_fill", "masked_fill_", "fill_", "full", "full_like", "new_full"}
WATCHED = SOFTMAXES | LOSSES | DIFFERENCES | NORMS | LOGARITHMS | RESHAPES
WATCHED |= {"scaled_dot_product_attention", "multinomial", "norm"} | PRODUCTS
MASKING |= {"where", "triu", "tril", "triu_", "tril_", "__setitem__", "tensor"}


@dataclass
class LayerStats:
    """Statistics of what one module put out in one forward pass.

    Args:
        rms: Root mean square of the output.
        largest: Largest magnitude.
        spread: Standard deviation over the samples, relative to the rms.
        calls: How often the module ran.
    """

    rms: float = 0.0
    largest: float = 0.0
    spread: float = 0.0
    calls: int = 0


@dataclass
class ActivationStats:
    """One use of an activation function, with the layer that feeds it.

    Args:
        function: Name of the function.
        layer: Module with weights that ran last before it, else the one that runs.
        share: Dead units (rectifiers) or values on a flat end (squashing functions).
    """

    function: str
    layer: str
    share: float


@dataclass
class ForwardOrigin:
    """Where the first value that is not finite was born in a forward pass.

    Args:
        function: The operation.
        layer: The module in which it ran.
        largest_input: Largest magnitude of what entered.
        half: It worked on half precision.
        learned: What entered depends on parameters, and not on the data alone.
        empty: No number entered at all.
    """

    function: str
    layer: str
    largest_input: float
    half: bool
    learned: bool = True
    empty: bool = False


@dataclass(eq=False)
class UpdateTrace(TorchFunctionMode):
    """Record layers, activations, the loss and the first non-finite value.

    A context manager around one update. Its hooks go when it exits.

    Args:
        model: The model to look into.
        find_origin: Also look for the first non-finite value (slower).
        hard: The result of an argmax was used as a number.
        largest_exp: Largest result of ``exp`` in float32.
        half: Where float16 values came up, and the largest of each place.
        slope: The first operation of the backward pass that made a value that is not
            finite from finite ones (with ``find_origin``).
        pushed: The largest gradient that reached this operation.
        backwards: How many backward passes began.
        stepped: ``id`` of each optimizer that made a step -> how many backward passes
            had begun before its last one.
        inside_backward: A backward pass began and has not ended: it raised.
        pulled: Module that puts out one value a sample -> lowest and highest
            gradient, in units of their largest, that each backward pass brought to it.
        offsets: Batch norm in evaluation mode -> how far the means of its inputs lie
            from the stored ones, in stored standard deviations (rms over channels).
        numbers: Terms that were added to the loss and have no graph.
    """

    model: nn.Module
    find_origin: bool = False
    layers: dict[str, LayerStats] = field(default_factory=dict)
    activations: list[ActivationStats] = field(default_factory=list)
    origin: ForwardOrigin | None = None
    loss: Tensor | None = None
    hard: bool = False
    largest_exp: float = 0.0
    half: dict[str, float] = field(default_factory=dict)
    slope: str = ""
    pushed: float = 0.0
    backwards: int = 0
    stepped: dict[int, int] = field(default_factory=dict)
    inside_backward: bool = False
    pulled: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    calls: FunctionCalls = field(default_factory=FunctionCalls)
    offsets: dict[str, float] = field(default_factory=dict)
    numbers: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._stack: list[str] = []
        self._last = ""
        self._chosen: list[Any] = []
        self._sums: list[tuple[Tensor, Tensor, Tensor]] = []
        self._hooks = Hooks()

    def __enter__(self) -> "UpdateTrace":
        for name, module in self.model.named_modules():
            weighted = any(True for _ in module.parameters(recurse=False))
            self._hook(name, module, weighted)
        self._hooks.keep(register_optimizer_step_pre_hook(self._step))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)  # type: ignore[no-untyped-call]
        self._hooks.close()

    def _hook(self, name: str, module: nn.Module, weighted: bool) -> None:
        def enter(_module: nn.Module, inputs: Any) -> None:
            self._stack.append(name)
            if isinstance(module, _BatchNorm) and inputs:
                self._offset(name, module, inputs[0])
            if isinstance(module, nn.MultiheadAttention):
                self._attention(name, module, inputs)

        def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if self._stack and self._stack[-1] == name:
                self._stack.pop()
            if weighted:
                self._last = name
            if weighted or name == "":
                self._measure(name, output)
            self._watch_pull(name, output)

        self._hooks.keep(
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave),
        )

    def _step(self, optimizer: Optimizer, *_: Any) -> None:
        self.stepped[id(optimizer)] = self.backwards

    def _measure(self, name: str, output: Any) -> None:
        stats = self.layers.setdefault(name, LayerStats())
        stats.calls += 1
        with torch._C.DisableTorchFunction():
            for value in tensors(output)[:1]:
                if not value.is_floating_point() or value.numel() == 0:
                    continue
                x = value.detach().float()
                rms = float(x.pow(2).mean().sqrt())
                stats.rms = max(stats.rms, rms) if stats.calls > 1 else rms
                stats.largest = max(stats.largest, float(x.abs().max()))
                if x.ndim > 1 and x.shape[0] > 1:
                    stats.spread = float(x.std(0).pow(2).mean().sqrt()) / (rms + 1e-30)

    def _offset(self, name: str, module: _BatchNorm, x: Tensor) -> None:
        """Note how far the inputs lie from the statistics that are used for them."""
        mean, var = module.running_mean, module.running_var
        if module.training or mean is None or var is None or x.ndim < 2:
            return
        with torch.no_grad(), torch._C.DisableTorchFunction():
            own = x.detach().float().transpose(0, 1).flatten(1).mean(1)
            apart = (own - mean.float()) / (var.float() + module.eps).sqrt()
            self.offsets[name] = float(apart.square().mean().sqrt())

    def _watch_pull(self, name: str, output: Any) -> None:
        """Note the gradients of what puts out one value a sample, such as a critic."""
        if not isinstance(output, Tensor) or not output.requires_grad:
            return
        if output.ndim != 2 or output.shape[1] != 1 or len(output) < 2:
            return

        def note(gradient: Tensor | None) -> None:
            if gradient is None:
                return
            with torch._C.DisableTorchFunction():
                low, high = float(gradient.min()), float(gradient.max())
                size = max(abs(low), abs(high)) or 1.0
                pulls = self.pulled.setdefault(name, [])
                pulls.append((low / size, high / size))

        output.register_hook(note)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name == "backward" and args and isinstance(args[0], Tensor):
            self.loss = args[0]
            self.backwards += 1
            self.inside_backward = True
            self.numbers = [*self.numbers, *self._without_graph(args[0])]
            if self.find_origin:
                self._watch_slopes(args[0])
        result = func(*args, **(kwargs or {}))
        self.inside_backward = False
        if name in WATCHED:
            with torch._C.DisableTorchFunction():
                self.calls.note(name, self.where, args, kwargs, result)
        if name in SUMS:
            self._sum(args, result)
        if name in SQUASHING or name in RECTIFYING:
            self._activation(name, args, result)
        if isinstance(result, Tensor) and result.dtype == HALF and result.numel():
            self._note_half(result)
        floats = isinstance(result, Tensor) and result.dtype == torch.float32
        if name == "exp" and floats and result.numel():
            with torch._C.DisableTorchFunction():
                self.largest_exp = max(self.largest_exp, float(result.detach().max()))
        if (
            self.find_origin
            and self.origin is None
            and name not in ("backward", "__get__")
        ):
            self._look(name, args, kwargs, result)
        if name == "argmax" and torch.is_grad_enabled() and args[0].requires_grad:
            self._chosen.append(result)
        elif name in ARITHMETIC and any(a is c for a in args for c in self._chosen):
            self.hard = True
        return result

    def _sum(self, args: Any, result: Any) -> None:
        parts = [a for a in args if isinstance(a, Tensor)]
        single = len(parts) == 2 and not any(a.ndim for a in parts)
        if single and isinstance(result, Tensor) and result.requires_grad:
            self._sums.append((result, parts[0], parts[1]))

    def _without_graph(self, loss: Tensor) -> list[float]:
        """Numbers that are added to a loss, and are not the value of another term."""
        top = linear_nodes(loss)
        terms = [
            part
            for total, *parts in self._sums
            if total.grad_fn in top
            for part in parts
        ]
        self._sums = []
        learned = [abs(float(t.detach())) for t in terms if t.requires_grad]
        return [
            float(t)
            for t in terms
            if not t.requires_grad
            and not any(math.isclose(abs(float(t)), v, rel_tol=1e-6) for v in learned)
        ]

    def _attention(self, name: str, module: nn.MultiheadAttention, inputs: Any) -> None:
        """Scores of torch's attention, whose softmax is out of sight."""
        if len(inputs) < 2 or module.in_proj_weight is None:
            return
        with torch.no_grad(), torch._C.DisableTorchFunction():
            width, heads = module.embed_dim, module.num_heads
            weight, bias = module.in_proj_weight, module.in_proj_bias
            query, key = (
                F.linear(
                    x.detach(),
                    weight[i * width : (i + 1) * width],
                    None if bias is None else bias[i * width : (i + 1) * width],
                )
                for i, x in enumerate(inputs[:2])
            )
            if not module.batch_first and query.ndim == 3:
                query, key = query.transpose(0, 1), key.transpose(0, 1)
            query, key = (
                x.reshape(*x.shape[:-1], heads, width // heads).transpose(-2, -3)
                for x in (query, key)
            )
            self.calls.note(
                "scaled_dot_product_attention", name, (query, key), {}, None
            )

    def _note_half(self, result: Tensor) -> None:
        with torch._C.DisableTorchFunction():
            largest = float(result.detach().abs().max())
        largest = math.inf if math.isnan(largest) else largest
        where = self.where
        self.half[where] = max(largest, self.half.get(where, 0.0))

    @property
    def where(self) -> str:
        """The module that runs now, or in which an error ended the update."""
        if not self._stack:
            return "loss"
        return self._stack[-1] or "(root)"

    def _activation(self, name: str, args: Any, result: Any) -> None:
        if not isinstance(result, Tensor) or result.numel() == 0:
            return
        with torch._C.DisableTorchFunction():
            y = result.detach().float()
            if name in RECTIFYING:
                unit = 1 if y.ndim >= 4 else -1
                units = (
                    y.movedim(unit, 0).flatten(1) if y.ndim > 1 else y.reshape(1, -1)
                )
                share = float((units.amax(1) <= 0).float().mean())
            else:
                low, high = SQUASHING[name]
                margin = FLAT * (high - low)
                share = float(((y < low + margin) | (y > high - margin)).float().mean())
        self.activations.append(ActivationStats(name, self._last or self.where, share))

    def _look(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        with torch._C.DisableTorchFunction():
            made = [t for t in tensors(result) if t.is_floating_point()]
            if all(bool(t.isfinite().all()) for t in made):
                return
            given = [*tensors(list(args)), *tensors(kwargs or {})]
            real = [t for t in given if t.is_floating_point() and t.numel()]
            nan = any(bool(t.isnan().any()) for t in made)
            if any(bool((t.isnan() if nan else t.isinf()).any()) for t in real):
                return
            if name in MASKING and not nan:
                return
            finite = [t.detach().float().abs() for t in real]
            peaks = [float(t[t.isfinite()].max()) for t in finite if t.isfinite().any()]
            self.origin = ForwardOrigin(
                name,
                self.where,
                max(peaks, default=0.0),
                any(t.dtype == HALF for t in [*made, *real]),
                any(t.requires_grad for t in real),
                empty=not real,
            )

    def _watch_slopes(self, loss: Tensor) -> None:
        """Note the first node of the graph whose gradient is not finite any more."""
        for node in nodes_of(loss):
            if not hasattr(node, "variable"):
                self._hooks.keep(
                    node.register_hook(partial(self._slope, short_name(node)))
                )

    def _slope(self, name: str, made: Any, given: Any) -> None:
        if self.slope:
            return
        bad = any(t is not None and not bool(t.isfinite().all()) for t in made)
        if bad and all(t is None or bool(t.isfinite().all()) for t in given):
            self.slope = name
            self.pushed = max(
                (float(t.abs().max()) for t in given if t is not None and t.numel()),
                default=0.0,
            )
