"""Penalties to add to a loss: on the size of weights, on what layers do to gradients.

Each returns a scalar tensor that is part of the graph: add it, times a factor, to
the loss. Penalties on matrices take each parameter with two or more axes as a matrix
(out, all other axes), as torch's spectral norm does, and skip biases and the like.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gradlib.checks import check_choice, check_positive


def l1_penalty(parameters: Tensor | Iterable[Tensor]) -> Tensor:
    """Sum of absolute values: sum |w|. Draws weights to exactly zero.

    Args:
        parameters: What to penalize.

    Raises:
        ValueError: there are no parameters.

    Example:
        >>> l1_penalty([torch.tensor([3.0, -4.0])])
        tensor(7.)
    """
    return torch.stack([w.abs().sum() for w in _tensors(parameters)]).sum()


def l2_penalty(parameters: Tensor | Iterable[Tensor]) -> Tensor:
    """Half the sum of squares: sum w^2 / 2. Its gradient is w.

    Times c it does what ``weight_decay=c`` does in SGD. In Adam the two differ.

    Args:
        parameters: What to penalize.

    Raises:
        ValueError: there are no parameters.

    Example:
        >>> l2_penalty([torch.tensor([3.0, -4.0])])
        tensor(12.5000)

    References:
        Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101
    """
    return torch.stack([w.square().sum() for w in _tensors(parameters)]).sum() / 2


def spectral_penalty(parameters: Tensor | Iterable[Tensor]) -> Tensor:
    """Half the sum of squared spectral norms: sum s_max(W)^2 / 2.

    s_max is the most that a linear layer can stretch a signal, and a gradient on its
    way back. Of a convolution it is the norm of the flattened kernel, which is not
    that of the layer (Sedghi et al.). Each matrix costs a decomposition.

    Args:
        parameters: What to penalize; those with fewer than two axes are skipped.

    Raises:
        ValueError: there are no matrices.

    Example:
        >>> spectral_penalty([torch.diag(torch.tensor([1.0, 4.0]))])
        tensor(8.)

    References:
        Yoshida & Miyato 2017, https://arxiv.org/abs/1705.10941
        Sedghi et al. 2019, https://arxiv.org/abs/1805.10408
    """
    norms = [torch.linalg.matrix_norm(w, 2) for w in _matrices(parameters)]
    return torch.stack(norms).square().sum() / 2


def orthogonality_penalty(
    parameters: Tensor | Iterable[Tensor], gain: float = 1.0
) -> Tensor:
    """Squared distance from a multiple of an orthogonal matrix.

    sum ||W W^T / gain^2 - 1||_F^2, over the shorter side of each W. It is zero where
    all singular values are ``gain``: such a layer stretches all gradients alike.

    Args:
        parameters: What to penalize; those with fewer than two axes are skipped.
        gain: The singular value to draw to; > 0.

    Raises:
        ValueError: there are no matrices, or ``gain`` is not > 0.

    Example:
        >>> orthogonality_penalty([2 * torch.eye(3)], gain=2.0)
        tensor(0.)
        >>> orthogonality_penalty([2 * torch.eye(3)])
        tensor(27.)

    References:
        Bansal et al. 2018, "Can we gain more from orthogonality regularizations in
        training deep CNNs?"
    """
    gain = check_positive(gain, "gain")
    distances = []
    for w in _matrices(parameters):
        wide = w if w.shape[0] <= w.shape[1] else w.T
        unit = torch.eye(len(wide), dtype=w.dtype, device=w.device)
        distances.append((wide @ wide.T / gain**2 - unit).square().sum())
    return torch.stack(distances).sum()


def recurrent_penalty(loss: Tensor, hidden: Tensor, rnn: nn.RNN) -> Tensor:
    """How far a recurrent net is from carrying gradients through time at equal size.

    Mean over steps of (||d_k J_k|| / ||d_k|| - 1)^2, with d_k the gradient of the loss
    by the hidden state h_k, and J_k = diag(f'(h_k)) W the Jacobian from h_(k-1) to h_k.
    As in the paper only W counts as variable: states and d_k are held fixed.

    The paper's sum over steps is a mean here, as in its authors' code, so that the
    factor does not depend on the length. Steps that no gradient reaches are left out.

    Args:
        loss: The loss, computed from ``hidden``.
        hidden: All hidden states, the first output of ``rnn``.
        rnn: One layer, one direction, tanh or relu.

    Returns:
        Scalar tensor, whose gradient reaches ``rnn.weight_hh_l0`` alone.

    Raises:
        TypeError: ``rnn`` is not an ``nn.RNN``.
        ValueError: it has several layers or directions, ``hidden`` is not what it
            puts out, or the loss does not depend on ``hidden``.

    Example:
        >>> rnn = nn.RNN(1, 2, nonlinearity="relu", batch_first=True)
        >>> for p in rnn.parameters():
        ...     _ = nn.init.constant_(p, 0.25)
        >>> hidden, _ = rnn(torch.ones(1, 5, 1))
        >>> recurrent_penalty(hidden[:, -1].sum(), hidden, rnn)
        tensor(0.2500, grad_fn=...)

    References:
        Pascanu et al. 2013, https://arxiv.org/abs/1211.5063
    """
    weight = _recurrent_weight(rnn)
    if not isinstance(hidden, Tensor) or hidden.shape[-1:] != weight.shape[:1]:
        raise ValueError(
            f"hidden: expected all hidden states, of {len(weight)} numbers each, the "
            "first output of rnn"
        )
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise TypeError(f"loss: expected a scalar tensor, got {loss!r:.80}")
    if loss.requires_grad and hidden.requires_grad:
        (direct,) = torch.autograd.grad(
            loss, hidden, retain_graph=True, allow_unused=True
        )
    else:
        direct = None
    if direct is None:
        raise ValueError("loss: expected a loss computed from hidden, got another")
    time = 1 if rnn.batch_first and hidden.ndim == 3 else 0
    states, matrix = hidden.detach().double(), weight.double()
    slopes = 1 - states**2 if rnn.nonlinearity == "tanh" else (states > 0).double()
    carried = torch.zeros_like(states.select(time, 0))
    squares, reached = [], []
    for here, slope in zip(
        reversed(direct.double().unbind(time)),
        reversed(slopes.unbind(time)),
        strict=True,
    ):
        arriving = here + carried.detach()
        carried = (arriving * slope) @ matrix
        size = arriving.norm(dim=-1)
        ratio = carried.norm(dim=-1) / torch.where(size > 0, size, 1.0)
        squares.append(torch.where(size > 0, (ratio - 1) ** 2, 0.0).sum())
        reached.append((size > 0).sum())
    mean = torch.stack(squares).sum() / torch.stack(reached).sum().clamp(min=1)
    return mean.to(weight.dtype)


def _recurrent_weight(rnn: nn.RNN) -> Tensor:
    if not isinstance(rnn, nn.RNN):
        raise TypeError(f"rnn: expected a torch.nn.RNN, got {type(rnn).__name__}")
    if rnn.num_layers != 1 or rnn.bidirectional:
        directions = 2 if rnn.bidirectional else 1
        raise ValueError(
            f"rnn: expected one layer and one direction, got {rnn.num_layers} and "
            f"{directions}. The states between them are not put out."
        )
    check_choice(rnn.nonlinearity, "rnn.nonlinearity", ["tanh", "relu"])
    return rnn.get_parameter("weight_hh_l0")


def _tensors(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, nn.Module) or not isinstance(parameters, Iterable):
        raise _wrong(parameters)
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise _wrong(tensor)
    if not tensors:
        raise ValueError(
            "parameters: expected at least one, got none. A generator such as "
            "model.parameters() can be used only once: make a list of it."
        )
    return tensors


def _wrong(got: object) -> TypeError:
    return TypeError(
        "parameters: expected parameters, such as model.parameters(), got "
        f"{type(got).__name__}"
    )


def _matrices(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    matrices = [w.flatten(1) for w in _tensors(parameters) if w.ndim > 1]
    if not matrices:
        raise ValueError(
            "parameters: expected at least one with two or more axes, got none"
        )
    return matrices
