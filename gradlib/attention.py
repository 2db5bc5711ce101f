"""Watch attention while a model trains: its logits and its entropy, head by head."""

import warnings
from collections.abc import Iterable
from typing import Self, SupportsFloat

from torch import nn

from gradlib.checks import check_count, check_positive
from gradlib.history import History
from gradlib.hooks import OpenedOnce
from gradlib.measure.attention import QUANTITIES, AttentionProbe, statistics, unseen
from gradlib.measure.tensors import DeferredNumbers

__all__ = ["AttentionMonitor"]


class AttentionMonitor(OpenedOnce):
    """Record the logits and the entropy of attention, head by head.

    It works with any attention that calls torch's ``scaled_dot_product_attention``, is
    a `torch.nn.MultiheadAttention` (which averages its weights over heads, and so hides
    one that has collapsed), or takes a softmax of its own. Call `log` once a step,
    after the forward pass; or give the monitor to `gradlib.watch`, whose rows it joins.

    For each head, ``<layer>/<head>`` stands for its columns:

    - ``attention_logit/...``: the largest absolute logit, after scaling by 1/sqrt(d)
      and after all that the layer does to it;
    - ``attention_range/...``: the largest distance between the logits of one query,
      max - min over the keys that it may see;
    - ``attention_entropy/...``: the mean over queries of -sum_k p_k log p_k, in nats:
      log n for a query that looks at all of n keys alike, 0 for one that sees a single
      key;
    - ``attention_entropy_least/...``: the least over queries.

    Keys that a causal or a padding mask hides count nowhere. Entropies are those of
    queries that may see at least half as many keys as the query that may see most, for
    the first token of a causal model has a choice of one. Queries at padding count, as
    torch's masks name keys only.

    Of several forward passes of a step the first that builds a graph counts, else the
    first. A compiled model runs uncompiled in the steps that are recorded. Of several
    processes each sees its own batch. Not seen: attention in kernels of others
    (flash-attn, xformers), ``flex_attention``, nested tensors.

    Args:
        model: Any module with attention.
        every: Record each ``every``-th step, the first one included.
        rows: Sequences of the batch to look at.
        queries: Tokens of a sequence to look at, at most; evenly spaced.
        layers: Names of the attention modules, as of ``model.named_modules()``. By
            default each ``nn.MultiheadAttention``, and each module with parts that are
            named like projections (``q_proj`` and ``k_proj``, ``query`` and ``key``,
            ``c_attn``, ``qkv``, and the like).
        heads: Heads of a layer, where it joins them with the batch in one dimension
            and has no attribute that tells (``num_heads``, ``heads``, ...).

    Attributes:
        history: The `History` of the recorded steps.
        layers: Names of the layers.

    Raises:
        TypeError: the model is no module.
        ValueError: it has no attention, or no layer of a given name.

    Example:
        >>> import math, torch
        >>> from gradlib.models import small_transformer
        >>> model = small_transformer(width=8, heads=2, depth=1, seed=0)
        >>> with AttentionMonitor(model, every=1) as monitor:
        ...     _ = model(torch.zeros(3, 16, dtype=torch.int64))
        ...     monitor.log()
        >>> list(monitor.history.layers("attention_logit"))
        ['blocks.0.attention/0', 'blocks.0.attention/1']
        >>> monitor.history["attention_entropy/blocks.0.attention/0"][0] < math.log(16)
        True

    References:
        Zhai et al. 2023 (entropy collapse), https://arxiv.org/abs/2303.06296
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 50,
        *,
        rows: int = 2,
        queries: int = 256,
        layers: Iterable[str] | None = None,
        heads: int | None = None,
    ) -> None:
        self.every = check_count(every, "every")
        self.history = History()
        self._probe = AttentionProbe(
            model,
            rows=check_count(rows, "rows"),
            queries=check_count(queries, "queries"),
            layers=layers,
            heads=heads,
            summary=statistics,
        )
        self.layers = list(self._probe.layers)
        self._step = 0
        self._has_warned = False

    def __enter__(self) -> Self:
        self._open()
        self._probe.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.stop()

    def log(self, **columns: SupportsFloat) -> None:
        """Count a step, and record it if it is due.

        Args:
            **columns: Further numbers for the row, such as the loss.

        Raises:
            RuntimeError: the monitor is not open, or no attention was seen.
        """
        if self._state != "open":
            raise RuntimeError(
                f"expected an open monitor, got one that is {self._state}. Call log "
                "inside `with AttentionMonitor(model) as monitor:`, or give the "
                "monitor to gradlib.watch."
            )
        if self.is_due(self._step):
            names, numbers = self.take()
            if not names:
                raise RuntimeError(unseen(self.layers))
            names = (*columns, *names)
            self.history.extend(self._step, names, [*columns.values(), *numbers.read()])
        self._step += 1
        if self.is_due(self._step):
            self._probe.start()

    def is_due(self, step: int) -> bool:
        """Whether a step is to be recorded."""
        return step % self.every == 0

    def start(self) -> None:
        """Listen from now on, for an owner that counts the steps, as `watch` does.

        Raises:
            RuntimeError: the monitor counts the steps itself.
        """
        if self._state not in ("new", "watched"):
            raise RuntimeError(
                f"expected a new monitor, got one that is {self._state}. Make an "
                "AttentionMonitor for this watch alone."
            )
        self._state = "watched"
        self._probe.start()

    def stop(self) -> None:
        """Stop listening."""
        self._state = "closed"
        self._probe.stop()

    def take(self) -> tuple[tuple[str, ...], DeferredNumbers]:
        """Stop listening; names of the columns, and their numbers."""
        self._probe.stop()
        found = self._probe.found
        missed = [name for name in self.layers if name not in found]
        if missed and not self._has_warned:
            self._has_warned = True
            warnings.warn(unseen(missed), stacklevel=3)
        columns = tuple(
            f"{quantity}/{name}/{head}"
            for name, values in found.items()
            for quantity, of_heads in zip(QUANTITIES, values, strict=True)
            for head in range(len(of_heads))
        )
        scalars = [x for values in found.values() for row in values for x in row]
        return columns, DeferredNumbers(scalars)

    def collapsed(self, below: float = 0.1) -> list[str]:
        """Heads whose mean entropy is small in the last recorded step.

        A head that copies one token is sharp and works. Many heads that become sharp
        while the loss rises are a collapse.

        Args:
            below: In nats; 0.1 is about one key and a tenth.

        Returns:
            Their names, ``<layer>/<head>``, the sharpest first.
        """
        check_positive(below, "below")
        last = {
            name: values[-1]
            for name, values in self.history.layers("attention_entropy").items()
        }
        return sorted((n for n in last if last[n] < below), key=last.__getitem__)
