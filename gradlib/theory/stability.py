"""What the learning rate, the batch and weight decay do to training: closed forms.

On a quadratic loss with curvature lambda every optimizer diverges beyond a
sharpness that depends on the learning rate. Deep nets train close to it.
"""

import math
from typing import NamedTuple

import torch

from gradlib.checks import check_choice, check_count, check_positive

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam")


class SpikePeak(NamedTuple):
    """The step at which Adam's update peaks after a jump, and its size."""

    step: int
    factor: float


class GradientNoise(NamedTuple):
    """What a gradient of one batch is made of.

    Args:
        signal: Squared norm of the true gradient.
        noise: Trace of the covariance of one example's gradient.
    """

    signal: float
    noise: float

    @property
    def scale(self) -> float:
        """The batch size at which noise and signal are equal: noise / signal."""
        return self.noise / self.signal if self.signal > 0 else math.inf


def max_sharpness(lr: float, optimizer: str = "sgd", *, momentum: float = 0.9) -> float:
    """Largest curvature at which an optimizer is stable.

    sgd 2 / eta, momentum (2 + 2 b) / eta, nesterov (2 + 2 b) / (eta (1 + 2 b)),
    adam (2 + 2 b) / (eta (1 - b)), which is 38 / eta for b = 0.9

    For Adam it bounds the sharpness divided by its second-moment root, held fixed.

    Args:
        lr: Learning rate eta; > 0.
        optimizer: ``"sgd"``, ``"momentum"``, ``"nesterov"`` or ``"adam"``, as torch
            writes them.
        momentum: b, for Adam beta1; in [0, 1). Plain SGD ignores it.

    Raises:
        ValueError: an argument is out of range or the name is unknown.

    Example:
        >>> max_sharpness(0.1), round(max_sharpness(0.1, "adam"), 6)
        (20.0, 380.0)

    References:
        Cohen et al. 2021, https://arxiv.org/abs/2103.00065
        Cohen et al. 2022, https://arxiv.org/abs/2207.14484
    """
    lr = check_positive(lr, "lr")
    b = _decay(momentum, "momentum")
    check_choice(optimizer, "optimizer", OPTIMIZERS)
    limits = {
        "sgd": 2.0,
        "momentum": 2 + 2 * b,
        "nesterov": (2 + 2 * b) / (1 + 2 * b),
        "adam": (2 + 2 * b) / (1 - b),
    }
    return limits[optimizer] / lr


def max_learning_rate(
    sharpness: float, optimizer: str = "sgd", *, momentum: float = 0.9
) -> float:
    """Largest learning rate at which an optimizer is stable, given the curvature.

    The inverse of `max_sharpness`, with the same arguments.

    Example:
        >>> max_learning_rate(20.0)
        0.1
    """
    sharpness = check_positive(sharpness, "sharpness")
    return max_sharpness(1.0, optimizer, momentum=momentum) / sharpness


def adam_spike(step: int, beta1: float = 0.9, beta2: float = 0.999) -> float:
    """Adam's update, in learning rates, after gradients jump to a new scale.

    (1 - beta1^t) / sqrt(1 - beta2^t): the first moment learns the new scale faster
    than the second, so updates overshoot.

    Args:
        step: t, steps since the jump, counted from 1.
        beta1: Decay of the first moment; in [0, 1).
        beta2: Decay of the second moment; in [0, 1).

    Raises:
        ValueError: ``step`` < 1 or a decay outside [0, 1).

    Example:
        >>> round(adam_spike(12), 3), round(adam_spike(12, beta2=0.95), 3)
        (6.569, 1.058)
    """
    step = check_count(step, "step")
    beta1, beta2 = _decay(beta1, "beta1"), _decay(beta2, "beta2")
    return (1 - beta1**step) / math.sqrt(1 - beta2**step)


def adam_spike_peak(beta1: float = 0.9, beta2: float = 0.999) -> SpikePeak:
    """The largest `adam_spike` and the step at which it comes.

    Example:
        >>> step, factor = adam_spike_peak()
        >>> step, round(factor, 3)
        (12, 6.569)
    """
    beta1, beta2 = _decay(beta1, "beta1"), _decay(beta2, "beta2")
    horizon = 2 if beta1 == 0 else 2 + math.ceil(-40 / math.log(beta1))
    step = torch.arange(1, horizon, dtype=torch.float64, device="cpu")
    factor = (1 - beta1**step) / torch.sqrt(1 - beta2**step)
    peak = int(factor.argmax())
    return SpikePeak(peak + 1, float(factor[peak]))


def weight_decay_equilibrium(
    lr: float, weight_decay: float, squared_gradient: float
) -> float:
    """Norm at which scale-invariant weights settle under SGD with weight decay.

    ||w||^4 = eta E||g||^2 / (2 lambda), with g the gradient at ||w|| = 1. Weights
    before a normalization have gradients of size 1 / ||w||: small weights grow,
    large ones shrink. Holds for eta lambda << 1.

    Args:
        lr: Learning rate eta; > 0.
        weight_decay: lambda, as torch.optim.SGD takes it; > 0.
        squared_gradient: E||g||^2 at ||w|| = 1; >= 0.

    Returns:
        The norm ||w||.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> round(weight_decay_equilibrium(0.1, 0.01, squared_gradient=63.0), 3)
        4.213

    References:
        van Laarhoven 2017, https://arxiv.org/abs/1706.05350
    """
    lr = check_positive(lr, "lr")
    weight_decay = check_positive(weight_decay, "weight_decay")
    moment = check_positive(squared_gradient, "squared_gradient", zero_ok=True)
    return math.sqrt(math.sqrt(lr * moment / (2 * weight_decay)))


def settled_gradient_ratio(lr: float, weight_decay: float) -> float:
    """Gradient norm over weight norm at which scale-invariant weights settle.

    ||g|| / ||w|| = sqrt(2 lambda / eta)

    The gradient is orthogonal to such weights, so a step of SGD with weight decay
    changes ||w||^2 by eta^2 ||g||^2 - 2 eta lambda ||w||^2, up to terms of the order
    (eta lambda)^2; at rest that is zero. A schedule that lowers the rate therefore
    raises the ratio, and ``weight_decay`` in proportion to the rate keeps it level.
    The ratio follows a schedule only if that is slow beside 1 / (2 eta lambda) steps.

    Args:
        lr: Learning rate eta; > 0.
        weight_decay: lambda, as torch.optim.SGD takes it; > 0.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> round(settled_gradient_ratio(0.1, 0.02), 4)
        0.6325
        >>> round(settled_gradient_ratio(0.025, 0.02), 4)
        1.2649

    References:
        Defazio 2025, https://arxiv.org/abs/2506.02285
    """
    lr = check_positive(lr, "lr")
    weight_decay = check_positive(weight_decay, "weight_decay")
    return math.sqrt(2 * weight_decay / lr)


def noise_floor(lr: float, curvature: float, noise: float = 1.0) -> float:
    """Mean square distance from the minimum at which SGD with noise stays.

    E x^2 = eta noise^2 / (lambda (2 - eta lambda)), infinite from eta lambda = 2 on

    Args:
        lr: Learning rate eta; > 0.
        curvature: lambda; > 0.
        noise: Standard deviation of the gradient's noise; >= 0.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> noise_floor(lr=0.5, curvature=2.0)
        0.25

    References:
        Defazio et al. 2023, https://arxiv.org/abs/2310.07831
    """
    lr, curvature = check_positive(lr, "lr"), check_positive(curvature, "curvature")
    noise = check_positive(noise, "noise", zero_ok=True)
    margin = 2 - lr * curvature
    return lr * noise * noise / (curvature * margin) if margin > 0 else math.inf


def squared_gradient_norm(signal: float, noise: float, batch_size: int) -> float:
    """Expected squared norm of the mean gradient of a batch.

    E||g_B||^2 = ||G||^2 + tr(Sigma) / B

    Args:
        signal: ||G||^2, squared norm of the true gradient; >= 0.
        noise: tr(Sigma), trace of the covariance of one example's gradient; >= 0.
        batch_size: B, examples drawn independently.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> squared_gradient_norm(signal=1.0, noise=8.0, batch_size=4)
        3.0

    References:
        McCandlish et al. 2018, https://arxiv.org/abs/1812.06162
    """
    signal = check_positive(signal, "signal", zero_ok=True)
    noise = check_positive(noise, "noise", zero_ok=True)
    return signal + noise / check_count(batch_size, "batch_size")


def gradient_noise(
    small_norm2: float, large_norm2: float, small_batch: int, large_batch: int
) -> GradientNoise:
    """Signal and noise from squared gradient norms at two batch sizes.

    Solves `squared_gradient_norm` for its first two arguments. Average the squared
    norms over many batches: from few of them the estimates may come out negative.

    Args:
        small_norm2: Mean squared gradient norm over small batches; >= 0.
        large_norm2: The same over large batches; >= 0.
        small_batch: Examples in a small batch.
        large_batch: Examples in a large batch; > ``small_batch``.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> gradient_noise(3.0, 1.5, small_batch=4, large_batch=16)
        GradientNoise(signal=1.0, noise=8.0)
    """
    small = check_positive(small_norm2, "small_norm2", zero_ok=True)
    large = check_positive(large_norm2, "large_norm2", zero_ok=True)
    few = check_count(small_batch, "small_batch")
    many = check_count(large_batch, "large_batch", least=few + 1)
    signal = (many * large - few * small) / (many - few)
    return GradientNoise(signal, (small - large) / (1 / few - 1 / many))


def _decay(value: float, name: str) -> float:
    return check_positive(value, name, zero_ok=True, below=1.0)
