"""Spectra of Jacobians and Hessians, without ever forming a large matrix."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from gradlib.checks import (
    check_count,
    check_function,
    check_generator,
    check_list,
    check_positive,
    check_type,
)
from gradlib.measure.sharded import is_sharded

_SMALL = 256
_EXTRA = 10
_ROUNDS = 10


def jacobian_singular_values(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    k: int | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Singular values of J = d function(x) / d x, largest first.

    By how much ``function`` stretches small changes of its input, direction by
    direction. All of them come from J itself. The ``k`` largest of a J with more than
    256 rows and columns come from randomised block Krylov iteration, which only
    multiplies by J and its transpose; their relative error is about 1e-6, or 1e-3
    where very many values lie close together.

    Args:
        function: From a tensor to a tensor; a module in evaluation mode, for example.
            Of a batch, J holds all samples: pass one sample.
        x: Where to take the derivative; any shape, floating point.
        k: How many to return; by default all.
        generator: Draws the directions that the iteration starts from.

    Returns:
        Shape (k,) or (min(rows, columns),), in the type of ``x``.

    Raises:
        TypeError: ``x`` is not floating point, or ``function`` returns no tensor.
        ValueError: ``x`` or a derivative is not finite, or there are fewer than ``k``
            values.

    Example:
        >>> jacobian_singular_values(lambda x: x**2, torch.tensor([1.0, 3.0]))
        tensor([6., 2.])

    References:
        Musco & Musco 2015, "Randomized block Krylov methods for stronger and faster
        approximate singular value decomposition"
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x: expected a floating point tensor, got {got}")
    if not x.isfinite().all():
        raise ValueError("x: expected finite numbers, got NaN or infinity")
    check_function(function, "function")
    check_generator(generator)
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        y = function(x)
    if not isinstance(y, Tensor):
        raise TypeError(
            f"function: expected it to return a tensor, got {type(y).__name__}"
        )
    count = min(y.numel(), x.numel())
    if k is not None and check_count(k, "k") > count:
        raise ValueError(f"k: expected at most {count} singular values, got {k}")
    weights = torch.zeros_like(y, requires_grad=True)
    slope = _pull(y, x, weights) if y.requires_grad else None
    if slope is None:
        return x.new_zeros(count if k is None else k).detach()
    if k is None or count <= max(_SMALL, k + _EXTRA):
        jacobian = _products(y, x, torch.eye(y.numel()).to(y))
    else:
        start = torch.randn(k + _EXTRA, x.numel(), generator=generator).to(x)
        jacobian = _projected(
            lambda rows: _products(slope, weights, rows),
            lambda rows: _products(y, x, rows),
            start,
        )
    _check_derivatives(jacobian, "function")
    values: Tensor = torch.linalg.svdvals(jacobian)
    return values[:k]


def sharpness(
    loss_fn: Callable[[], Tensor],
    parameters: Tensor | Iterable[Tensor],
    *,
    iterations: int = 100,
    tolerance: float = 1e-4,
    generator: torch.Generator | None = None,
) -> float:
    """Largest eigenvalue of the Hessian of the loss.

    Gradient descent is stable while sharpness < 2 / learning rate. Found by Lanczos
    with products H v = d (g . v) / d w, each in the type of its weight, their sums at
    least in float32; gradients in ``grad`` are not touched.

    Args:
        loss_fn: Computes the loss, a scalar; called once.
        parameters: What to differentiate by; those without ``requires_grad`` are
            skipped.
        iterations: Largest number of products; as many vectors are kept.
        tolerance: Relative error at which to stop; > 0.
        generator: Draws the starting vector; by default always the same one.

    Returns:
        The eigenvalue with its sign: negative if the loss curves down everywhere.

    Raises:
        TypeError: the loss is not a scalar tensor.
        ValueError: the loss or a second derivative is not finite, the loss does not
            depend on the parameters, or these are cut over processes.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> round(sharpness(lambda: 3 * w[0] ** 2 + w[1] ** 2, [w]), 4)
        6.0

    References:
        Cohen et al. 2021, https://arxiv.org/abs/2103.00065
    """
    check_count(iterations, "iterations")
    check_positive(tolerance, "tolerance")
    check_function(loss_fn, "loss_fn")
    check_generator(generator)
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    items: list[Tensor] = check_list(parameters, "parameters")
    for item in items:
        check_type(Tensor, parameters=item)
    if any(map(is_sharded, items)):
        raise ValueError(
            "parameters: expected whole tensors, got some that are cut over processes. "
            "Take the sharpness of a plain copy of the model."
        )
    weights = [p for p in items if p.requires_grad]
    product = _hessian(loss_fn, weights)
    if product is None:
        return 0.0
    generator = generator or torch.Generator().manual_seed(0)
    size = sum(p.numel() for p in weights)
    wide = torch.promote_types(weights[0].dtype, torch.float32)
    start = torch.randn(size, generator=generator).to(weights[0].device, wide)
    return _lanczos(product, start, min(iterations, size), tolerance)


def _pull(y: Tensor, x: Tensor, weights: Tensor) -> Tensor | None:
    """J^T u for the weights u, as a function of u: its derivative by u is J again."""
    return torch.autograd.grad(y, x, weights, create_graph=True, allow_unused=True)[0]


def _products(y: Tensor, x: Tensor, rows: Tensor) -> Tensor:
    """Each row times the Jacobian of y by x."""
    weights = rows.view(-1, *y.shape)
    (products,) = torch.autograd.grad(
        y, x, weights, retain_graph=True, is_grads_batched=True
    )
    return products.flatten(1)


def _check_derivatives(values: Tensor, name: str) -> None:
    if not values.isfinite().all():
        raise ValueError(
            f"{name}: expected finite derivatives, got NaN or infinity in "
            f"{values.dtype}. Take them in a wider type, away from a pole or a root."
        )


def _projected(
    forward: Callable[[Tensor], Tensor],
    transposed: Callable[[Tensor], Tensor],
    rows: Tensor,
) -> Tensor:
    """J restricted to the span of v, J^T J v, (J^T J)^2 v, ... for the rows v."""
    blocks = [_orthonormal(rows)]
    for _ in range(_ROUNDS):
        blocks.append(_orthonormal(transposed(forward(blocks[-1]))))
    return forward(_orthonormal(torch.cat(blocks)))


def _orthonormal(rows: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(rows.T).Q
    return basis.T


def _hessian(
    loss_fn: Callable[[], Tensor], weights: list[Tensor]
) -> Callable[[Tensor], Tensor] | None:
    """v -> H v for the loss at the weights; None if H is zero."""
    loss = loss_fn()
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise TypeError(f"loss_fn: expected a scalar loss, got {loss!r:.80}")
    if not math.isfinite(loss.item()):
        raise ValueError(f"loss_fn: expected a finite loss, got {loss.item()}")
    if not weights or not loss.requires_grad:
        raise ValueError(
            "parameters: expected the loss to depend on them, got a loss without "
            "gradient. Leave out torch.no_grad() and detach()."
        )
    grads = torch.autograd.grad(
        loss, weights, create_graph=True, materialize_grads=True
    )
    curved = [(g, k) for k, g in enumerate(grads) if g.requires_grad]
    if not curved:
        return None
    sizes = [w.numel() for w in weights]

    def product(vector: Tensor) -> Tensor:
        parts = vector.split(sizes)  # type: ignore[no-untyped-call]
        outputs = [parts[k].view_as(weights[k]).to(weights[k]) for _, k in curved]
        columns = torch.autograd.grad(
            [g for g, _ in curved],
            weights,
            outputs,
            retain_graph=True,
            materialize_grads=True,
        )
        for column in columns:
            _check_derivatives(column, "loss_fn")
        return torch.cat([column.flatten() for column in columns]).to(vector)

    return product


def _lanczos(
    product: Callable[[Tensor], Tensor], start: Tensor, steps: int, tolerance: float
) -> float:
    """Largest eigenvalue of a symmetric matrix that is known by its products."""
    basis = [start / start.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = product(basis[-1])
        diagonal.append((image @ basis[-1]).item())
        known = torch.stack(basis)
        for _ in range(2):
            image = image - known.T @ (known @ image)
        rest = image.norm().item()
        matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        if beside:
            off = torch.tensor(beside, dtype=torch.float64)
            matrix += torch.diag(off, 1) + torch.diag(off, -1)
        values, vectors = torch.linalg.eigh(matrix)
        value = float(values[-1])
        error = rest * abs(vectors[-1, -1].item())
        if error <= tolerance * abs(value) or len(basis) == steps:
            return value
        beside.append(rest)
        basis.append(image / rest)
