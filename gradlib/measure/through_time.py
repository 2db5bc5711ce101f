"""Gradients of recurrent nets by lag, and the Jacobians that they multiply."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap
from torch.nn.functional import linear

from gradlib.checks import check_function, check_type


def gradient_by_lag(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Norm of the gradient by the input of each step, from the last step back.

    Root mean square over the batch of ||d function / d x_{T-k}||, for lags k = 0, 1,
    ... On a log axis a straight line, whose slope is the largest Lyapunov exponent; far
    below 1 at the lag that matters, no step of training can see it.

    Args:
        function: From inputs to a scalar that adds up over the examples, such as a loss
            with ``reduction="sum"`` after the last step.
        x: Inputs, shape (..., batch, steps, features), floating point.

    Returns:
        Shape (..., steps), by lag; gradients of parameters stay as they are.

    Raises:
        TypeError: ``function`` is no function or returns no tensor, or ``x`` is no
            floating point tensor.
        ValueError: ``x`` has fewer than three dimensions, or the result is not a scalar
            that depends on it.

    Example:
        >>> leak = 0.5 ** torch.arange(3.0).flip(0)  # half is lost in each step
        >>> x = torch.ones(4, 3, 1)
        >>> gradient_by_lag(lambda x: (x * leak[:, None]).sum(), x)
        tensor([1.0000, 0.5000, 0.2500])
    """
    check_function(function, "function")
    check_type(Tensor, x=x)
    if not x.is_floating_point():
        raise TypeError(f"x: expected a floating point tensor, got {x.dtype}")
    if x.ndim < 3 or x.numel() == 0:
        raise ValueError(
            "x: expected shape (..., batch, steps, features), got "
            f"{tuple(x.shape)}. Of one sequence give x[None]."
        )
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        y = function(x)
    check_type(Tensor, function=y)
    if y.numel() != 1 or not y.requires_grad:
        raise ValueError(
            "function: expected a scalar that depends on x, got shape "
            f"{tuple(y.shape)}, requires_grad={y.requires_grad}"
        )
    ones = torch.ones_like(y)
    (gradient,) = torch.autograd.grad(y, x, ones, materialize_grads=True)
    # In float64: the square of a float32 gradient may underflow.
    by_step = gradient.double().square().sum(-1).mean(-2).sqrt()
    return by_step.flip(-1).to(x.dtype)


def step_jacobians(rnn: nn.RNNBase, x: Tensor, state: Tensor | None = None) -> Tensor:
    """Derivative of each state of a recurrent layer by the one before.

    J_t = d s_t / d s_{t-1} along one sequence; their product is what a gradient through
    time is multiplied by. The state of an LSTM is (h, c), of the others h.

    Args:
        rnn: An ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU`` with one layer and one direction.
        x: One sequence of inputs, shape (steps, features).
        state: The first state, shape (n,); n is the width, of an LSTM twice that. Zeros
            by default.

    Returns:
        Shape (steps, n, n).

    Raises:
        TypeError: ``rnn`` is not such a layer of torch, or an argument no tensor.
        ValueError: it has several layers, directions or a projection, or a shape does
            not fit.

    Example:
        >>> rnn = nn.RNN(1, 1, bias=False)
        >>> _ = nn.init.constant_(rnn.weight_hh_l0, 0.5)
        >>> step_jacobians(rnn, torch.zeros(2, 1)).flatten()
        tensor([0.5000, 0.5000])
    """
    if not isinstance(rnn, nn.RNN | nn.LSTM | nn.GRU):
        raise TypeError(
            f"rnn: expected nn.RNN, nn.LSTM or nn.GRU, got {type(rnn).__name__}. Of a "
            "model give the recurrent layer, such as model.rnn."
        )
    if rnn.num_layers != 1 or rnn.bidirectional or rnn.proj_size:
        raise ValueError(
            "rnn: expected one layer, one direction and no projection, got "
            f"num_layers={rnn.num_layers}, bidirectional={rnn.bidirectional}, "
            f"proj_size={rnn.proj_size}"
        )
    check_type(Tensor, x=x)
    if x.ndim != 2 or x.shape[1] != rnn.input_size or len(x) == 0:
        raise ValueError(
            f"x: expected shape (steps, {rnn.input_size}), got {tuple(x.shape)}"
        )
    size = rnn.hidden_size * (2 if isinstance(rnn, nn.LSTM) else 1)
    first = x.new_zeros(size) if state is None else state
    check_type(Tensor, state=first)
    if first.shape != (size,):
        raise ValueError(f"state: expected shape ({size},), got {tuple(first.shape)}")
    weights = [w.detach() for w in rnn.parameters()]

    def step(s: Tensor, x: Tensor) -> Tensor:
        return _next_state(rnn, weights, s, x)

    states = [first.detach()]
    with torch.no_grad():
        for inputs in x.detach()[:-1]:
            states.append(step(states[-1], inputs))
    jacobians: Tensor = vmap(jacrev(step))(torch.stack(states), x.detach())
    return jacobians


def _next_state(
    rnn: nn.RNNBase, weights: list[Tensor], state: Tensor, x: Tensor
) -> Tensor:
    """One step, in operations that vmap knows; torch's own cells are not."""
    into, across, *biases = weights
    of_input, of_state = biases or (None, None)
    h, c = state.chunk(2) if isinstance(rnn, nn.LSTM) else (state, None)
    a, b = linear(x, into, of_input), linear(h, across, of_state)
    if c is not None:
        i, f, g, o = (a + b).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return torch.cat([o.sigmoid() * c.tanh(), c])
    if isinstance(rnn, nn.GRU):
        (r_in, z_in, n_in), (r, z, n) = a.chunk(3), b.chunk(3)
        new = (n_in + (r_in + r).sigmoid() * n).tanh()
        return new + (z_in + z).sigmoid() * (state - new)
    return (a + b).relu() if rnn.mode == "RNN_RELU" else (a + b).tanh()
