"""Eigenvalues and singular values, and what they say about gradients.

Singular values bound what one product can do; eigenvalues say what many products
with the same matrix do in the end.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from gradlib.activations import (
    ActivationLike,
    as_activation,
    max_slope,
    slope,
    slope_second_moment,
)
from gradlib.checks import check_choice, check_count, check_list, check_positive
from gradlib.quadrature import gaussian_expectation


def spectral_radius(weight: Tensor) -> float:
    """Largest magnitude of an eigenvalue of a square matrix.

    In a linear recurrence the gradient grows by this factor a step in the long run
    (its norm, not squared); the first steps may do anything.

    Args:
        weight: Matrix of shape (n, n).

    Raises:
        TypeError: it is not a tensor.
        ValueError: the matrix is not square or holds NaN or infinity.

    Example:
        >>> spectral_radius(torch.tensor([[0.0, 9.0], [0.0, 0.0]]))
        0.0

    References:
        Pascanu et al. 2013, https://arxiv.org/abs/1211.5063
    """
    matrix = _matrix(weight)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"weight: expected a square matrix, got shape {tuple(matrix.shape)}"
        )
    return float(torch.linalg.eigvals(matrix).abs().max())


def jacobian_bound(
    weights: Iterable[Tensor], activation: ActivationLike = "tanh"
) -> float:
    """Bound on the norm of the Jacobian of layers f(W x), not squared.

    prod max|f'| sigma_max(W): below 1 in every layer gradients must vanish, and
    where they explode it is above 1. Above 1 nothing is certain. For T steps of a
    recurrent net give its matrix T times.

    Args:
        weights: One matrix for each layer.
        activation: A name, function or module.

    Raises:
        TypeError: one is not a tensor.
        ValueError: there is no matrix, or one is not finite.

    Example:
        >>> jacobian_bound([2 * torch.eye(3)] * 4, activation="sigmoid")
        0.0625

    References:
        Pascanu et al. 2013, https://arxiv.org/abs/1211.5063
    """
    if isinstance(weights, Tensor) and weights.ndim == 2:
        weights = [weights]
    matrices = [_matrix(w) for w in check_list(weights, "weights")]
    norms = [float(torch.linalg.matrix_norm(w, 2)) for w in matrices]
    if not norms:
        raise ValueError("weights: expected one matrix for each layer, got none")
    steepest = max_slope(activation)
    return math.prod(steepest * norm for norm in norms)


def singular_value_variance(
    depth: int,
    activation: ActivationLike = "relu",
    weights: str = "gaussian",
    *,
    q: float = 1.0,
) -> float:
    """Spread of a critical net's squared singular values, their mean being 1.

    depth (E f'^4 / (E f'^2)^2 - 1 - s),  s = -1 for Gaussian weights, 0 for
    orthogonal ones. 0 is dynamical isometry, which ReLU never reaches.

    Args:
        depth: Number of layers.
        activation: A name, function or module.
        weights: ``"gaussian"`` or ``"orthogonal"``.
        q: Variance of the layers' inputs; > 0.

    Raises:
        ValueError: an argument is out of range or a name unknown.

    Example:
        >>> round(singular_value_variance(depth=16, activation="relu"), 10)
        32.0

    References:
        Pennington et al. 2017, https://arxiv.org/abs/1711.04735
    """
    depth = check_count(depth, "depth")
    check_choice(weights, "weights", ["gaussian", "orthogonal"])
    q = check_positive(q, "q")
    second = slope_second_moment(activation, q)
    if second == 0:
        raise ValueError(
            "activation: expected a slope that is not zero everywhere, got "
            f"{as_activation(activation).name}"
        )
    fourth = gaussian_expectation(lambda x: slope(activation, x) ** 4, q)
    return depth * (fourth / second**2 - (0 if weights == "gaussian" else 1))


def _matrix(weight: Tensor) -> Tensor:
    """``weight`` as a detached float64 matrix, checked."""
    if not isinstance(weight, Tensor):
        raise TypeError(f"weight: expected a tensor, got {type(weight).__name__}")
    if weight.ndim != 2 or weight.numel() == 0:
        raise ValueError(f"weight: expected a matrix, got shape {tuple(weight.shape)}")
    if not bool(weight.isfinite().all()):
        raise ValueError("weight: expected finite values, got NaN or infinity")
    return weight.detach().double()
