"""What enters the softmax of attention, and how few keys a query looks at.

Logits are read where a layer computes them: in
`torch.nn.functional.scaled_dot_product_attention`, in
`torch.nn.functional.multi_head_attention_forward`, or in a softmax of its own. So
rotary embeddings, normalized queries and keys, caps, shared key heads and masks are all
in them, whoever wrote the layer.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradlib.checks import check_count, check_list, check_model, check_type
from gradlib.hooks import Hooks
from gradlib.measure.attention_reading import Listener, LogitReader
from gradlib.state import plain_name, unchanged, uncompiled

QUANTITIES = (
    "attention_logit",
    "attention_range",
    "attention_entropy",
    "attention_entropy_least",
)
PROJECTIONS = (
    {"q_proj", "k_proj"},
    {"query", "key"},
    {"q", "k"},
    {"q_lin", "k_lin"},
    {"to_q", "to_k"},
    {"wq", "wk"},
    {"c_attn"},
    {"qkv"},
    {"qkv_proj"},
    {"query_key_value"},
)
"""Names of the parts by which attention layers are found."""

HEADS = ("num_heads", "heads", "n_heads", "n_head", "num_attention_heads")


def attention_logits(
    model: nn.Module,
    batch: Any,
    *,
    layers: Iterable[str] | None = None,
    heads: int | None = None,
) -> dict[str, Tensor]:
    """The logits of each attention layer, for a batch.

    The model runs once, in evaluation mode and without a graph, and is left as it was.

    Args:
        model: Any module with attention.
        batch: What the model takes: a tensor, a tuple of arguments, or a mapping of
            named ones.
        layers: As for `AttentionMonitor`.
        heads: As for `AttentionMonitor`.

    Returns:
        Tensor of shape (sequences, heads, queries, keys) by name of the layer, -inf
        where a mask hides the key.

    Raises:
        TypeError: the model is no module.
        ValueError: it has no attention, or none was seen.

    Example:
        >>> from gradlib.models import small_transformer
        >>> model = small_transformer(width=8, heads=2, depth=1, seed=0)
        >>> logits = attention_logits(model, torch.zeros(3, 16, dtype=torch.int64))
        >>> logits["blocks.0.attention"].shape
        torch.Size([3, 2, 16, 16])
    """
    probe = AttentionProbe(model, layers=layers, heads=heads)
    with unchanged(model), torch.no_grad():
        model.eval()
        probe.start()
        try:
            if isinstance(batch, Mapping):
                model(**batch)
            elif isinstance(batch, tuple):
                model(*batch)
            else:
                model(batch)
        finally:
            probe.stop()
    if not probe.found:
        raise ValueError(unseen(list(probe.layers)))
    return probe.found


def unseen(layers: list[str]) -> str:
    """What to say where layers ran no attention that can be seen."""
    return (
        f"expected to see the attention of {', '.join(layers[:3])}, got none in the "
        "forward passes of a step. Call log after the forward pass. Attention in a "
        "kernel of its own is not seen: switch to torch's (in transformers "
        'attn_implementation="sdpa"). Name other layers by layers=[...].'
    )


def attention_changes(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, float]:
    """Root mean square of the change of attention logits, head by head.

    Logits of a query are taken relative to their mean over the keys that it may see:
    what all of them share changes nothing in a softmax. Keys that are hidden in one of
    the two count nowhere.

    Args:
        before: What `attention_logits` gave.
        after: The same later, for the same batch.

    Returns:
        The change by ``<layer>/<head>``.

    Raises:
        TypeError: one of the two is no mapping to tensors.
        ValueError: layers or shapes differ.

    Example:
        >>> one = {"layer": torch.tensor([[[[0.0, 2.0]]]])}
        >>> two = {"layer": torch.tensor([[[[3.0, 7.0]]]])}
        >>> attention_changes(one, two)
        {'layer/0': 1.0}
    """
    check_type(Mapping, before=before, after=after)
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())
        raise ValueError(
            f"before, after: expected the same layers, got a difference in "
            f"{', '.join(odd[:5])}"
        )
    changes: dict[str, float] = {}
    for name, first in before.items():
        second = after[name]
        check_type(Tensor, before=first, after=second)
        if first.shape != second.shape:
            raise ValueError(
                f"before, after: expected the same shape for {name}, got "
                f"{tuple(first.shape)} and {tuple(second.shape)}. Use the same batch."
            )
        seen = (first > -math.inf) & (second > -math.inf)
        squares = (_centered(second, seen) - _centered(first, seen)).square()
        means = squares.sum((0, 2, 3)) / seen.sum((0, 2, 3))
        changes |= {f"{name}/{h}": x for h, x in enumerate(means.sqrt().tolist())}
    return changes


def _centered(logits: Tensor, seen: Tensor) -> Tensor:
    """Logits minus their mean over the keys that are seen; 0 elsewhere."""
    kept = logits.masked_fill(~seen, 0.0)
    mean = kept.sum(-1, keepdim=True) / seen.sum(-1, keepdim=True).clamp(min=1)
    return (kept - mean).masked_fill(~seen, 0.0)


def statistics(logits: Tensor) -> Tensor:
    """Largest logit, range, mean and least entropy of each head.

    Args:
        logits: Shape (sequences, heads, queries, keys), -inf where hidden.

    Returns:
        Shape (4, heads), in the order of `QUANTITIES`.

    Example:
        >>> logits = torch.tensor([[[[0.0, 0.0, -torch.inf], [1.0, 3.0, -5.0]]]])
        >>> statistics(logits)[:2].flatten()
        tensor([5., 8.])
    """
    hidden = logits == -math.inf
    keys = (~hidden).sum(-1)
    largest = logits.masked_fill(hidden, 0.0).abs().amax((0, 2, 3))
    top = logits.amax(-1)
    bottom = logits.masked_fill(hidden, math.inf).amin(-1)
    ranges = (top - bottom).masked_fill(keys == 0, 0.0).amax((0, 2))
    chosen = (2 * keys >= keys.amax()) & (keys > 0)
    log_p = logits.log_softmax(-1).masked_fill(hidden, 0.0)
    entropy = -(log_p.exp() * log_p).sum(-1)
    mean = entropy.masked_fill(~chosen, 0.0).sum((0, 2)) / chosen.sum((0, 2))
    least = entropy.masked_fill(~chosen, math.inf).amin((0, 2))
    return torch.stack([largest, ranges, mean, least])


class AttentionProbe:
    """The logits of attention layers, in the forward passes that run.

    Args:
        model: Any module with attention.
        rows: Sequences to keep; None keeps all.
        queries: Queries to keep; None keeps all.
        layers: As for `AttentionMonitor`.
        heads: As for `AttentionMonitor`.
        summary: What to keep of the logits; None keeps them.

    Attributes:
        layers: The modules by name.
        found: Logits, or their summary, by name of the layer.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        rows: int | None = None,
        queries: int | None = None,
        layers: Iterable[str] | None = None,
        heads: int | None = None,
        summary: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        check_model(model)
        if heads is not None:
            check_count(heads, "heads")
        modules = _found(model) if layers is None else _named(model, layers)
        self.layers = {plain_name(n) or type(m).__name__: m for n, m in modules.items()}
        encoders = (nn.TransformerEncoder, nn.TransformerEncoderLayer)
        self._encoders = [m for m in model.modules() if isinstance(m, encoders)]
        self.found: dict[str, Tensor] = {}
        self._builds_graph: set[str] = set()
        self._rows = rows
        self._queries = queries
        self._heads = heads
        self._summary = summary
        self._hooks = Hooks()
        self._listening: list[Listener | None] = []

    def start(self) -> None:
        """Forget what was found, and listen to the next forward passes."""
        self.stop()
        self.found = {}
        self._builds_graph = set()
        self._hooks.enter_context(uncompiled())
        for encoder in self._encoders:
            self._hook(encoder, _Before(self, None))
        for name, module in self.layers.items():
            self._hook(module, _Before(self, name))

    def _hook(self, module: nn.Module, before: "_Before") -> None:
        self._hooks.keep(
            module.register_forward_pre_hook(before),
            module.register_forward_hook(_After(self), always_call=True),
        )

    def stop(self) -> None:
        """Remove all hooks."""
        while self._listening:
            self.leave()
        self._hooks.close()

    def enter(self, name: str | None, module: nn.Module) -> None:
        """Listen to a layer, unless a pass that counts as much was heard before.

        Without a name, what runs is only kept off the fast paths of torch's encoder,
        in which no layer of attention is called.
        """
        if not _can_listen() or (name is not None and not self._is_new(name)):
            self._listening.append(None)
            return
        listener = Listener() if name is None else self._listener(name, module)
        self._listening.append(listener)
        listener.__enter__()  # type: ignore[no-untyped-call]

    def _is_new(self, name: str) -> bool:
        if torch.is_grad_enabled():
            return name not in self._builds_graph
        return name not in self.found

    def _listener(self, name: str, module: nn.Module) -> Listener:
        builds_graph = torch.is_grad_enabled()
        heads = self._heads or next(
            (n for a in HEADS if isinstance(n := getattr(module, a, None), int)), None
        )

        def keep(logits: Tensor) -> None:
            self.found[name] = self._summary(logits) if self._summary else logits
            if builds_graph:
                self._builds_graph.add(name)

        reader = LogitReader(name, heads, self._rows, self._queries)
        return Listener(reader, keep)

    def leave(self) -> None:
        """Stop listening to the layer that was entered last."""
        listener = self._listening.pop() if self._listening else None
        if listener is not None:
            listener.__exit__(None, None, None)  # type: ignore[no-untyped-call]


class _Before:
    """The hook before a layer; a copy of the module has a blind one."""

    def __init__(self, probe: AttentionProbe | None, name: str | None) -> None:
        self._probe, self._name = probe, name

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        if self._probe is not None:
            self._probe.enter(self._name, module)

    def __reduce__(self) -> tuple[type["_Before"], tuple[None, str | None]]:
        return _Before, (None, self._name)


class _After:
    """The hook behind a layer, also where it raises."""

    def __init__(self, probe: AttentionProbe | None) -> None:
        self._probe = probe

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._probe is not None:
            self._probe.leave()

    def __reduce__(self) -> tuple[type["_After"], tuple[None]]:
        return _After, (None,)


def _can_listen() -> bool:
    """Not while torch compiles, nor under the transforms of `torch.func`."""
    is_transformed = torch._C._functorch.peek_interpreter_stack() is not None
    return not (torch.compiler.is_compiling() or is_transformed)


def _found(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that look like attention and hold no other such module."""
    candidates = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention)
        or any(names <= module._modules.keys() for names in PROJECTIONS)
    }
    known = {id(module) for module in candidates.values()}
    found = {
        name: module
        for name, module in candidates.items()
        if not any(id(m) in known for m in module.modules() if m is not module)
    }
    if not found:
        raise ValueError(
            f"model: expected attention layers, got {type(model).__name__} without any "
            "that is an nn.MultiheadAttention or has parts named like projections "
            "(q_proj and k_proj, query and key, qkv, ...). Name them: "
            'layers=["blocks.0.attention", ...].'
        )
    return found


def _named(model: nn.Module, layers: Iterable[str]) -> dict[str, nn.Module]:
    modules = dict(model.named_modules())
    short = {plain_name(name): name for name in modules}
    wanted = check_list([layers] if isinstance(layers, str) else layers, "layers")
    if not wanted:
        raise ValueError("layers: expected at least one name, got none")
    for name in wanted:
        if name not in modules and name not in short:
            known = ", ".join([n for n in short if n][:8])
            raise ValueError(
                f"layers: expected names of modules, got {name!r}; the model has "
                f"{known}"
            )
    return {n: modules[n if n in modules else short[n]] for n in wanted}
