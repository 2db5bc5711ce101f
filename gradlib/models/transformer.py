"""A small transformer, with the choices that decide whether it trains stably.

Where the norms stand, whether queries and keys are normalized, how large the
attention logits become.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradlib.activations import ActivationLike, as_activation
from gradlib.checks import check_choice, check_count, check_type
from gradlib.state import seeded


class Attention(nn.Module):
    """Self-attention; returns its output and its largest absolute logit."""

    def __init__(self, width: int, heads: int, causal: bool, qk_norm: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        size = width // heads
        self.query_norm = nn.LayerNorm(size) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(size) if qk_norm else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q = self.query_norm(self._split(self.query(x)))
        k = self.key_norm(self._split(self.key(x)))
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        pairs = torch.ones(logits.shape[-2:], dtype=torch.bool, device=x.device)
        hidden = pairs.triu(1) & self.causal
        largest = logits.detach().masked_fill(hidden, 0.0).abs().amax()
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
        max_logits: Largest absolute attention logit of each block in the last forward
            pass, shape (depth,); None before, or if they are not recorded.
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
        self.max_logits: Tensor | None = None

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
        self.max_logits = torch.stack(logits) if self.record_logits else None
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
        qk_norm: Whether layer norms bound queries and keys, and so the logits.
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
    hidden = 4 * width if hidden is None else check_count(hidden, "hidden")
    if width % heads:
        raise ValueError(f"heads: expected a divisor of the width {width}, got {heads}")
    with seeded(seed):
        blocks = [
            Block(
                Attention(width, heads, causal, qk_norm),
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
