"""A small transformer, with the choices that decide whether it trains stably.

Where the norms stand, whether queries and keys are normalized, how large the
attention logits become, and what holds them and the output logits back.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradlib.activations import ActivationLike, as_activation
from gradlib.checks import (
    check_choice,
    check_count,
    check_model,
    check_positive,
    check_type,
)
from gradlib.state import seeded


class Attention(nn.Module):
    """Self-attention; returns its output and each head's largest absolute logit."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        causal: bool,
        qk_norm: bool,
        qk_gain: bool,
        logit_cap: float | None,
    ) -> None:
        super().__init__()
        self.heads, self.causal, self.logit_cap = heads, causal, logit_cap
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        norms = [
            nn.LayerNorm(width // heads, elementwise_affine=qk_gain)
            if qk_norm
            else nn.Identity()
            for _ in range(2)
        ]
        self.query_norm, self.key_norm = norms

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q = self.query_norm(self._split(self.query(x)))
        k = self.key_norm(self._split(self.key(x)))
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if self.logit_cap is not None:
            logits = self.logit_cap * torch.tanh(logits / self.logit_cap)
        pairs = torch.ones(logits.shape[-2:], dtype=torch.bool, device=x.device)
        hidden = pairs.triu(1) & self.causal
        largest = logits.detach().masked_fill(hidden, 0.0).abs().amax((0, 2, 3))
        weights = logits.masked_fill(hidden, -math.inf).softmax(-1)
        mixed = weights @ self._split(self.value(x))
        return self.out(mixed.transpose(1, 2).flatten(2)), largest

    def _split(self, x: Tensor) -> Tensor:
        """From (batch, steps, width) to (batch, heads, steps, width / heads)."""
        batch, steps, _ = x.shape
        return x.view(batch, steps, self.heads, -1).transpose(1, 2)


class Block(nn.Module):
    """Attention and a feedforward net of one hidden layer, each with a skip.

    x + F(norm(x)) with the norm in front ("pre"), norm(x + F(x)) behind ("post").
    """

    def __init__(
        self,
        attention: Attention,
        width: int,
        hidden: int,
        activation: ActivationLike,
        norm_position: str,
    ) -> None:
        super().__init__()
        self.norm_position = norm_position
        self.attention = attention
        self.attention_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.activation = as_activation(activation).module()
        self.down = nn.Linear(hidden, width)
        self.feedforward_norm = nn.LayerNorm(width)

    def feedforward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(self.activation(self.up(x)))
        return y

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.norm_position == "pre":
            y, largest = self.attention(self.attention_norm(x))
            x = x + y
            return x + self.feedforward(self.feedforward_norm(x)), largest
        y, largest = self.attention(x)
        x = self.attention_norm(x + y)
        return self.feedforward_norm(x + self.feedforward(x)), largest


class Transformer(nn.Module):
    """Embeddings, blocks, and a linear layer that gives logits for each token.

    Attributes:
        blocks: The `Block` modules.
        record_logits: Set it to have each forward pass keep ``max_logits``.
        head_logits: Largest absolute attention logit of each block and head in the last
            forward pass, after a cap, shape (depth, heads); None before, or if they are
            not recorded.
        max_logits: Those of each block, shape (depth,).
    """

    def __init__(
        self, vocab: int, width: int, context: int, blocks: list[Block]
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Parameter(0.1 * torch.randn(context, width))
        self.blocks = nn.ModuleList(blocks)
        pre = blocks[0].norm_position == "pre"
        self.norm = nn.LayerNorm(width) if pre else nn.Identity()
        self.head = nn.Linear(width, vocab)
        self.record_logits = False
        self.head_logits: Tensor | None = None

    @property
    def max_logits(self) -> Tensor | None:
        return None if self.head_logits is None else self.head_logits.amax(1)

    def forward(self, tokens: Tensor) -> Tensor:
        check_type(Tensor, tokens=tokens)
        steps, context = tokens.shape[-1], len(self.positions)
        if tokens.ndim != 2 or steps > context:
            raise ValueError(
                f"tokens: expected shape (batch, steps) with steps <= {context}, got "
                f"{tuple(tokens.shape)}. Build the model with a larger context."
            )
        x = self.tokens(tokens) + self.positions[:steps]
        logits = []
        for block in self.blocks:
            x, largest = block(x)
            logits.append(largest)
        self.head_logits = torch.stack(logits) if self.record_logits else None
        answer: Tensor = self.head(self.norm(x))
        return answer


def small_transformer(
    vocab: int = 16,
    width: int = 32,
    depth: int = 2,
    heads: int = 4,
    *,
    context: int = 64,
    norm_position: str = "pre",
    qk_norm: bool = False,
    qk_gain: bool = True,
    logit_cap: float | None = None,
    hidden: int | None = None,
    activation: ActivationLike = "relu",
    causal: bool = True,
    seed: int | None = None,
) -> Transformer:
    """A transformer language model: logits for the next token at each step.

    Weights of attention and feedforward layers are Xavier's, their biases zero.

    Args:
        vocab: Number of different tokens.
        width: Numbers in a token's vector; ``heads`` divides it.
        depth: Number of blocks.
        heads: Attention heads of a block.
        context: Longest sequence, in tokens.
        norm_position: "pre" (stable) or "post" (the original; needs warm-up).
        qk_norm: Whether layer norms bound queries and keys, and so the logits
            (`theory.qk_norm_bound`).
        qk_gain: Whether those norms learn a gain and a shift, which move the bound.
        logit_cap: c > 0 turns an attention logit a into c tanh(a / c); None leaves it.
        hidden: Units of the feedforward layers, by default 4 ``width``.
        activation: A name, function or module for the feedforward layers.
        causal: Whether a token sees only itself and earlier ones.
        seed: Draws the weights from this seed and leaves torch's random state alone;
            None draws from that state.

    Returns:
        A `Transformer`: input (batch, steps) of int64, output (batch, steps, vocab).

    Raises:
        ValueError: a count is too small, a name unknown, or ``heads`` does not divide
            ``width``.

    Example:
        >>> model = small_transformer(vocab=10, width=8, depth=3, qk_norm=True, seed=0)
        >>> model.record_logits = True
        >>> model(torch.zeros(5, 20, dtype=torch.int64)).shape
        torch.Size([5, 20, 10])
        >>> model.max_logits.shape
        torch.Size([3])

    References:
        Xiong et al. 2020 (norm positions), https://arxiv.org/abs/2002.04745
        Wortsman et al. 2023 (attention logits), https://arxiv.org/abs/2309.14322
        Dehghani et al. 2023 (QK-norm), https://arxiv.org/abs/2302.05442
        Gemma Team 2024 (soft cap), https://arxiv.org/abs/2408.00118
    """
    for value, name in (
        (vocab, "vocab"),
        (width, "width"),
        (depth, "depth"),
        (heads, "heads"),
        (context, "context"),
    ):
        check_count(value, name)
    check_choice(norm_position, "norm_position", ("pre", "post"))
    if logit_cap is not None:
        logit_cap = check_positive(logit_cap, "logit_cap")
    hidden = 4 * width if hidden is None else check_count(hidden, "hidden")
    if width % heads:
        raise ValueError(f"heads: expected a divisor of the width {width}, got {heads}")
    with seeded(seed):
        blocks = [
            Block(
                Attention(
                    width,
                    heads,
                    causal=causal,
                    qk_norm=qk_norm,
                    qk_gain=qk_gain,
                    logit_cap=logit_cap,
                ),
                width,
                hidden,
                activation,
                norm_position,
            )
            for _ in range(depth)
        ]
        for block in blocks:
            for layer in block.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(block.up.bias)
            nn.init.zeros_(block.down.bias)
        return Transformer(vocab, width, context, blocks)


def token_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean cross-entropy over all tokens, a loss for models of sequences.

    Args:
        logits: Shape (batch, steps, vocab).
        tokens: Targets, int64 of shape (batch, steps); -100 where none counts.

    Returns:
        Scalar tensor, in nats.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: the shapes do not fit, or ``tokens`` are no int64.

    Example:
        >>> loss = token_loss(torch.zeros(2, 3, 8), torch.zeros(2, 3).long())
        >>> round(loss.exp().item(), 4)
        8.0
    """
    check_type(Tensor, logits=logits, tokens=tokens)
    if logits.shape[:-1] != tokens.shape or not tokens.ndim:
        raise ValueError(
            "logits, tokens: expected shapes (batch, steps, vocab) and (batch, steps), "
            f"got {tuple(logits.shape)} and {tuple(tokens.shape)}"
        )
    if tokens.dtype != torch.int64:
        raise ValueError(
            f"tokens: expected torch.int64, got {tokens.dtype}. Write tokens.long()."
        )
    return F.cross_entropy(logits.flatten(0, -2), tokens.flatten())


def z_loss(logits: Tensor, weight: float = 1e-4) -> Tensor:
    """A penalty that holds the output logits near log Z = 0; add it to the loss.

    weight * mean (log Z)^2, with Z the sum of exp(logit) over the vocabulary. Its
    gradient by the logits of one token is 2 weight log Z p, with p their softmax.
    Cross-entropy does not see a shift that all logits of a token share; this does.

    Args:
        logits: Shape (..., vocab).
        weight: > 0; PaLM trained with 1e-4.

    Returns:
        Scalar tensor.

    Raises:
        TypeError: ``logits`` is no tensor.
        ValueError: ``logits`` has no axis, or ``weight`` is out of range.

    Example:
        >>> z_loss(torch.zeros(2, 3, 8), weight=1.0).sqrt().exp()  # Z = 8
        tensor(8.)

    References:
        Chowdhery et al. 2022 (PaLM, section 5), https://arxiv.org/abs/2204.02311
    """
    check_type(Tensor, logits=logits)
    if not logits.ndim:
        raise ValueError("logits: expected shape (..., vocab), got ()")
    weight = check_positive(weight, "weight")
    return weight * logits.logsumexp(-1).square().mean()


@torch.no_grad()
def qk_clip_(model: Transformer, threshold: float) -> Tensor:
    """Shrink queries and keys of each head whose logits exceeded a threshold.

    With s the head's largest logit in the last forward pass, the head's rows of W_q and
    of W_k are multiplied by sqrt(min(1, threshold / s)), in place. The same input then
    gives logits of at most the threshold. Call it after each step of the optimizer.

    Args:
        model: A transformer with ``record_logits`` set, after a forward pass, without
            QK-norm, which would undo it, and without a cap, which hides s.
        threshold: Largest logit allowed; > 0.

    Returns:
        The largest logit of each block and head before, shape (depth, heads).

    Raises:
        ValueError: logits were not recorded, are not finite, or are bounded already.

    Example:
        >>> model = small_transformer(seed=0)
        >>> model.record_logits = True
        >>> tokens = torch.arange(16).view(1, 16)
        >>> before, _ = model(tokens), qk_clip_(model, threshold=0.5)
        >>> _ = model(tokens)
        >>> bool(model.head_logits.max() < 0.51)
        True

    References:
        Kimi Team 2025, https://arxiv.org/abs/2507.20534
    """
    check_type(Transformer, model=model)
    threshold = check_positive(threshold, "threshold")
    if model.head_logits is None:
        raise ValueError(
            "model: no logits recorded. Set model.record_logits = True and run a "
            "forward pass before the step."
        )
    before = model.head_logits
    if not before.isfinite().all():
        raise ValueError(
            "model: expected finite logits, got NaN or infinity in the last forward "
            "pass. Go back to a state from before that."
        )
    blocks: Any = model.blocks
    attentions: list[Attention] = [block.attention for block in blocks]
    for a in attentions:
        if not isinstance(a.query_norm, nn.Identity) or a.logit_cap is not None:
            raise ValueError(
                "model: expected one without qk_norm and logit_cap, which bound the "
                "logits already. Clip a model that has neither."
            )
    factors = (threshold / before).clamp(max=1.0).sqrt()
    for a, factor in zip(attentions, factors, strict=True):
        for layer in (a.query, a.key):
            layer.weight.view(a.heads, -1).mul_(factor[:, None])
    return before


QUERY_KEY_NAMES = {"query", "key", "q_proj", "k_proj", "to_q", "to_k", "wq", "wk"}


def query_key_groups(
    model: nn.Module, lr: float, share: float = 0.1
) -> list[dict[str, Any]]:
    """Parameter groups that give queries and keys a smaller learning rate.

    An attention logit is a product of two of the model's matrices, so one step moves
    it from both sides.

    Args:
        model: Its query and key projections are submodules called ``query`` and
            ``key``, ``q_proj`` and ``k_proj``, ``to_q`` and ``to_k``, or ``wq``
            and ``wk``.
        lr: Learning rate of all other parameters; > 0.
        share: That of queries and keys, as a share of ``lr``; > 0.

    Returns:
        Two groups for an optimizer of torch: the others, then queries and keys.

    Raises:
        ValueError: no submodule has such a name. A fused projection, such as
            ``in_proj_weight`` of nn.MultiheadAttention, cannot be split into groups.

    Example:
        >>> groups = query_key_groups(small_transformer(seed=0), lr=0.01)
        >>> [(len(group["params"]), group["lr"]) for group in groups]
        [(26, 0.01), (4, 0.001)]
    """
    check_model(model)
    lr, share = check_positive(lr, "lr"), check_positive(share, "share")
    chosen = {
        id(p): p
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in QUERY_KEY_NAMES
        for p in module.parameters()
    }
    if not chosen:
        raise ValueError(
            f"model: expected submodules named {', '.join(sorted(QUERY_KEY_NAMES))}, "
            "got none. Put the parameters into groups by hand."
        )
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        {"params": others, "lr": lr},
        {"params": list(chosen.values()), "lr": lr * share},
    ]
