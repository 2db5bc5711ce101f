"""The logits of attention, where a layer calls functions of torch to compute them."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

MASKED = -1e8
"""A logit below this is a mask: -inf, -1e9 and the least number of a format are in
use. The largest logits of trainings that died were of the order of 1e4."""


class Listener(TorchFunctionMode):
    """Sees the functions of torch that are called; hands on the first logits.

    Args:
        reader: Takes logits from the arguments of a function; None lets all pass.
        keep: Gets them.
    """

    def __init__(
        self,
        reader: "LogitReader | None" = None,
        keep: Callable[[Tensor], None] = lambda logits: None,
    ) -> None:
        super().__init__()
        self._reader = reader
        self._keep = keep

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self._reader is not None and function in READERS:
            first: Tensor = next(iter((*args, *kwargs.values())))
            with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
                logits = READERS[function](self._reader, *args, **kwargs)
            if logits is not None:
                self._keep(logits)
                self._reader = None
        return function(*args, **kwargs)


class LogitReader:
    """The logits of attention from the arguments of functions of torch.

    Args:
        name: Of the layer, for messages.
        heads: Where a tensor of three dimensions joins them with the batch.
        rows: Sequences to keep.
        queries: Queries to keep.
    """

    def __init__(
        self, name: str, heads: int | None, rows: int | None, queries: int | None
    ) -> None:
        self._name = name
        self._heads = heads
        self._rows = rows
        self._queries = queries

    def of_softmax(self, *args: Any, **kwargs: Any) -> Tensor | None:
        """What enters a softmax over keys."""
        x: Tensor = args[0] if args else kwargs["input"]
        dim = args[1] if args[1:] else kwargs.get("dim")
        if x.ndim < 3 or dim not in (-1, x.ndim - 1):
            return None
        return _shown(_precise(self._some_queries(self._split(x))), x.dtype)

    def of_attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Q K^T scale + mask, as `F.scaled_dot_product_attention` says."""
        queries, keys = query.shape[-2], key.shape[-2]
        q = _precise(self._some_queries(self._split(query)))
        k = _precise(self._split(key))
        if q.shape[1] != k.shape[1]:
            k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        logits = q @ k.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            pairs = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril()
            logits = logits.masked_fill(~self._some_queries(pairs), -math.inf)
        if attn_mask is not None:
            mask = attn_mask.expand(*query.shape[:-1], keys)
            mask = self._some_queries(self._split(mask))
            if mask.dtype == torch.bool:
                return logits.masked_fill(~mask, -math.inf)
            logits = logits + _shown(_precise(mask), mask.dtype)
        return logits

    def of_multihead(self, *args: Any, **kwargs: Any) -> Tensor:
        """The same for `F.multi_head_attention_forward`, whose batch is second."""
        given = _SIGNATURE.bind(*args, **kwargs)
        given.apply_defaults()
        logits: Tensor = self._of_projections(**given.arguments)
        return logits

    def _of_projections(
        self,
        query: Tensor,
        key: Tensor,
        num_heads: int,
        in_proj_weight: Tensor | None,
        in_proj_bias: Tensor | None,
        bias_k: Tensor | None,
        add_zero_attn: bool,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        q_proj_weight: Tensor | None,
        k_proj_weight: Tensor | None,
        static_k: Tensor | None,
        **_: Any,
    ) -> Tensor:
        if query.ndim == 2:
            query, key = query.unsqueeze(1), key.unsqueeze(1)
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        width = query.shape[-1]
        if q_proj_weight is None or k_proj_weight is None:
            weight = cast(Tensor, in_proj_weight)
            q_proj_weight, k_proj_weight = weight[:width], weight[width : 2 * width]
        biases = (None, None) if in_proj_bias is None else in_proj_bias.chunk(3)[:2]

        def by_head(x: Tensor) -> Tensor:
            """From (tokens, batch, width) to (batch, heads, tokens, width / heads)."""
            return x.reshape(*x.shape[:2], num_heads, -1).permute(1, 2, 0, 3)

        batch = query.shape[1]
        rows = batch if self._rows is None else min(self._rows, batch)
        q = by_head(F.linear(query[:, :rows], q_proj_weight, biases[0]))
        if static_k is None:
            k = F.linear(key[:, :rows], k_proj_weight, biases[1])
            if bias_k is not None:
                k = torch.cat([k, bias_k.expand(1, rows, -1)])
            k = by_head(k)
        else:
            k = static_k.view(batch, num_heads, *static_k.shape[1:])[:rows]
        if add_zero_attn:
            k = F.pad(k, (0, 0, 0, 1))
        scale = q.shape[-1] ** -0.5
        logits: Tensor = _precise(self._some_queries(q)) @ _precise(k).mT * scale
        added = k.shape[-2] - (key.shape[0] if static_k is None else static_k.shape[1])
        if attn_mask is not None:
            if attn_mask.ndim == 3:
                of_heads = (batch, num_heads, *attn_mask.shape[1:])
                attn_mask = attn_mask.reshape(of_heads)[:rows]
            logits = logits + F.pad(_bias(self._some_queries(attn_mask)), (0, added))
        if key_padding_mask is not None:
            padding = F.pad(_bias(key_padding_mask[:rows]), (0, added))
            logits = logits + padding[:, None, None]
        return logits

    def _split(self, x: Tensor) -> Tensor:
        """Rows to keep, in the shape (sequences, heads, queries, ...)."""
        if x.ndim == 3:
            heads = self._heads or 1
            if x.shape[0] % heads:
                raise ValueError(
                    f"heads: expected a divisor of the first dimension in "
                    f"{self._name}, of shape {tuple(x.shape)}, got {heads}. Give the "
                    "number of heads by heads=."
                )
            x = x.reshape(-1, heads, *x.shape[1:])
        elif x.ndim > 4:
            x = x.flatten(0, -4)
        return x.detach() if self._rows is None else x.detach()[: self._rows]

    def _some_queries(self, x: Tensor) -> Tensor:
        """Evenly spaced queries, the last one included, of shape (..., queries, n)."""
        queries = x.shape[-2]
        if self._queries is None or queries <= self._queries:
            return x
        step = queries / self._queries
        places = [math.ceil((k + 1) * step) - 1 for k in range(self._queries)]
        return x[..., places, :]


READERS: dict[Any, Callable[..., Tensor | None]] = {
    F.scaled_dot_product_attention: LogitReader.of_attention,
    F.multi_head_attention_forward: LogitReader.of_multihead,
    F.softmax: LogitReader.of_softmax,
    torch.softmax: LogitReader.of_softmax,
    Tensor.softmax: LogitReader.of_softmax,
}
_SIGNATURE = inspect.signature(F.multi_head_attention_forward)


def _precise(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _shown(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """Logits with -inf where a mask made them very small in a format."""
    return logits.masked_fill(
        logits < max(MASKED, torch.finfo(dtype).min / 2), -math.inf
    )


def _bias(mask: Tensor) -> Tensor:
    """What a mask of `nn.MultiheadAttention` adds; True hides there."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, device=mask.device).masked_fill(mask, -math.inf)
    return _shown(_precise(mask), mask.dtype)
