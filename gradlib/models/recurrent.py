"""Recurrent nets: a classifier of sequences and a language model.

Their gradient through time is governed by the hidden-to-hidden matrices, whose
spectral radius can be chosen.
"""

import math
from numbers import Real

import torch
from torch import Tensor, nn

from gradlib.checks import check_choice, check_count, check_generator, check_positive
from gradlib.state import seeded

NONLINEARITIES = {"rnn": ("tanh", "relu"), "lstm": ("tanh",), "gru": ("tanh",)}
HIDDEN_SCHEMES = ("orthogonal", "gaussian", "identity")


class Recurrent(nn.Module):
    """A recurrent net with a linear layer on its hidden states.

    Attributes:
        embedding: Turns tokens into vectors; None if the input is vectors already.
        rnn: Torch's ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``, batch first.
        head: The linear layer that answers.
        every_step: Whether there is an answer at each step, or one after the last.
    """

    def __init__(
        self,
        rnn: nn.RNNBase,
        head: nn.Linear,
        *,
        embedding: nn.Embedding | None = None,
        every_step: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.rnn = rnn
        self.head = head
        self.every_step = every_step

    def forward(self, x: Tensor) -> Tensor:
        if self.embedding is not None:
            x = self.embedding(x)
        hidden: Tensor = self.rnn(x)[0]
        answer: Tensor = self.head(hidden if self.every_step else hidden[:, -1])
        return answer


def recurrent_classifier(
    kind: str = "rnn",
    width: int = 64,
    *,
    in_features: int = 2,
    out_features: int = 1,
    layers: int = 1,
    nonlinearity: str = "tanh",
    spectral_radius: float | None = None,
    hidden_scheme: str = "orthogonal",
    forget_bias: float | None = None,
    seed: int | None = None,
) -> Recurrent:
    """A recurrent net that answers once, after the last step.

    With one output feature it is a regressor, as the adding problem needs.

    Args:
        kind: "rnn", "lstm" or "gru".
        width: Units of the hidden state.
        in_features: Numbers in the input of one step.
        out_features: Numbers in the answer, such as classes.
        layers: Recurrent layers on top of each other.
        nonlinearity: "tanh", or for "rnn" also "relu".
        spectral_radius: That of the hidden-to-hidden matrices; >= 0. None keeps
            torch's weights, whose radius is about 0.58.
        hidden_scheme: How they are drawn, as for `initialize_hidden_`.
        forget_bias: Bias of the gate that keeps the state, an LSTM's forget gate or a
            GRU's update gate; torch's second bias is set to 0 there. None keeps
            torch's.
        seed: Draws the weights from this seed and leaves torch's random state alone;
            None draws from that state.

    Returns:
        A `Recurrent`: input (batch, steps, in_features), output (batch,
        out_features).

    Raises:
        ValueError: a count or number is out of range, a name unknown, or a forget
            bias given to a plain net.

    Example:
        >>> model = recurrent_classifier("gru", width=8, out_features=3)
        >>> model(torch.zeros(5, 20, 2)).shape
        torch.Size([5, 3])
    """
    check_count(in_features, "in_features")
    check_count(out_features, "out_features")
    with seeded(seed):
        rnn = _cell(kind, in_features, width, layers, nonlinearity)
        head = nn.Linear(width, out_features)
        _prepare(rnn, spectral_radius, hidden_scheme, forget_bias)
    return Recurrent(rnn, head)


def recurrent_lm(
    kind: str = "lstm",
    width: int = 32,
    *,
    vocab: int = 16,
    layers: int = 1,
    nonlinearity: str = "tanh",
    spectral_radius: float | None = None,
    hidden_scheme: str = "orthogonal",
    forget_bias: float | None = None,
    seed: int | None = None,
) -> Recurrent:
    """A recurrent language model: logits for the next token at each step.

    Args:
        kind: "rnn", "lstm" or "gru".
        width: Units of the hidden state and of a token's embedding.
        vocab: Number of different tokens.
        layers: As for `recurrent_classifier`, like all that follow.

    Returns:
        A `Recurrent`: input (batch, steps) of int64, output (batch, steps, vocab).

    Raises:
        ValueError: as for `recurrent_classifier`.

    Example:
        >>> model = recurrent_lm("lstm", width=8, vocab=10)
        >>> model(torch.zeros(5, 20, dtype=torch.int64)).shape
        torch.Size([5, 20, 10])
    """
    check_count(vocab, "vocab")
    with seeded(seed):
        rnn = _cell(kind, width, width, layers, nonlinearity)
        embedding, head = nn.Embedding(vocab, width), nn.Linear(width, vocab)
        _prepare(rnn, spectral_radius, hidden_scheme, forget_bias)
    return Recurrent(rnn, head, embedding=embedding, every_step=True)


@torch.no_grad()
def initialize_hidden_(
    rnn: nn.RNNBase,
    spectral_radius: float = 1.0,
    *,
    scheme: str = "orthogonal",
    generator: torch.Generator | None = None,
) -> nn.RNNBase:
    """Draw the hidden-to-hidden matrices of a recurrent layer, in place.

    Each gate of an LSTM or GRU gets a matrix of its own.

    Args:
        rnn: An ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``.
        spectral_radius: Largest absolute value of an eigenvalue; >= 0.
        scheme: "orthogonal" and "identity" multiply such a matrix by the radius, so
            that all singular values equal it; "gaussian" divides a Gaussian matrix by
            its own radius, and has larger singular values.
        generator: Source of the draws, by default torch's global one.

    Returns:
        The layer.

    Raises:
        TypeError: ``rnn`` is not a recurrent layer of torch.
        ValueError: the radius is negative, the scheme unknown, or the hidden state is
            projected, so that the matrices are not square.

    Example:
        >>> rnn = initialize_hidden_(nn.RNN(2, 8), 0.5, scheme="identity")
        >>> rnn.weight_hh_l0[0, :2].tolist()
        [0.5, 0.0]

    References:
        Pascanu et al. 2013, https://arxiv.org/abs/1211.5063
        Le et al. 2015 (identity), https://arxiv.org/abs/1504.00941
    """
    if not isinstance(rnn, nn.RNNBase):
        raise TypeError(
            f"rnn: expected nn.RNN, nn.LSTM or nn.GRU, got {type(rnn).__name__}. Of a "
            "model give the recurrent layer, such as model.rnn."
        )
    if rnn.proj_size:
        raise ValueError(
            "rnn: expected square hidden-to-hidden matrices, got a projection to "
            f"{rnn.proj_size} units. Leave proj_size at 0."
        )
    check_generator(generator)
    radius = check_positive(spectral_radius, "spectral_radius", zero_ok=True)
    check_choice(scheme, "scheme", HIDDEN_SCHEMES)
    for name, weight in rnn.named_parameters():
        if name.startswith("weight_hh"):
            for gate in torch.split(weight, rnn.hidden_size):
                gate.copy_(radius * _unit_radius(rnn.hidden_size, scheme, generator))
    return rnn


def _unit_radius(width: int, scheme: str, generator: torch.Generator | None) -> Tensor:
    """A matrix of spectral radius 1, in float64."""
    device = None if generator is None else generator.device
    matrix = torch.eye(width, dtype=torch.float64, device=device)
    if scheme == "orthogonal":
        nn.init.orthogonal_(matrix, generator=generator)
    elif scheme == "gaussian":
        nn.init.normal_(matrix, std=1 / math.sqrt(width), generator=generator)
        matrix /= torch.linalg.eigvals(matrix).abs().max()
    return matrix


def _cell(
    kind: str, in_features: int, width: int, layers: int, nonlinearity: str
) -> nn.RNNBase:
    check_choice(kind, "kind", NONLINEARITIES)
    check_choice(nonlinearity, "nonlinearity", NONLINEARITIES[kind])
    check_count(width, "width")
    check_count(layers, "layers")
    if kind == "rnn":
        return nn.RNN(
            in_features, width, layers, nonlinearity=nonlinearity, batch_first=True
        )
    cell = nn.LSTM if kind == "lstm" else nn.GRU
    return cell(in_features, width, layers, batch_first=True)


@torch.no_grad()
def _prepare(
    rnn: nn.RNNBase,
    spectral_radius: float | None,
    hidden_scheme: str,
    forget_bias: float | None,
) -> None:
    check_choice(hidden_scheme, "hidden_scheme", HIDDEN_SCHEMES)
    if spectral_radius is not None:
        initialize_hidden_(rnn, spectral_radius, scheme=hidden_scheme)
    if forget_bias is None:
        return
    if not isinstance(rnn, nn.LSTM | nn.GRU):
        raise ValueError(
            "forget_bias: expected only with kind='lstm' or 'gru', got "
            f"{forget_bias!r} with {type(rnn).__name__}, which has no gate"
        )
    if not isinstance(forget_bias, Real) or math.isnan(forget_bias):
        raise ValueError(f"forget_bias: expected a number, got {forget_bias!r}")
    # The second block of rows, in torch's order i f g o and r z n.
    forget = slice(rnn.hidden_size, 2 * rnn.hidden_size)
    for name, bias in rnn.named_parameters():
        if name.startswith("bias"):
            bias[forget] = forget_bias if name.startswith("bias_ih") else 0.0
