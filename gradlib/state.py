"""Put back what an experiment changes: modes, buffers, gradients, random numbers."""

import copy
import random
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradlib.checks import check_count

_WRAPPERS = re.compile(
    r"^module\.|\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)


def bare_optimizer(optimizer: Any) -> Optimizer:
    """The optimizer of torch inside a wrapper, such as that of Accelerate.

    Raises:
        TypeError: there is none.
    """
    if isinstance(optimizer, Optimizer) and is_set_up(optimizer):
        return optimizer
    for name in ("optimizer", "opt"):
        inner = getattr(optimizer, name, None)
        if isinstance(inner, Optimizer) and inner is not optimizer:
            return bare_optimizer(inner)
    raise TypeError(
        f"optimizer: expected a torch.optim.Optimizer, got {type(optimizer)}. Make one "
        "of torch; to record norms without it, log to a GradientMonitor."
    )


def is_set_up(optimizer: Optimizer) -> bool:
    """Whether it takes hooks: a wrapper that only looks like an optimizer does not."""
    return hasattr(optimizer, "_optimizer_step_pre_hooks")


def runs_closure(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a step is given a closure, so that gradients come within it.

    Args:
        args: What a hook of the optimizer's step gets: the optimizer, and the rest.
        kwargs: The same by name.
    """
    return any(map(callable, (*args[1:], *kwargs.values())))


def loss_in(result: Any) -> Any:
    """The loss in what a model or a step returned: under ``loss``, or first."""
    if isinstance(result, Tensor):
        return result
    if isinstance(result, Mapping) and "loss" in result:
        return result["loss"]
    if isinstance(result, (tuple, list)) and result:
        return result[0]
    return getattr(result, "loss", result)


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """All parameters of an optimizer, group after group."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def plain_name(name: str) -> str:
    """The name of a parameter or a module without the prefixes of wrappers.

    Example:
        >>> plain_name("module._orig_mod.layers.0.weight")
        'layers.0.weight'
        >>> plain_name("head.module.weight")
        'head.module.weight'
    """
    return _WRAPPERS.sub("", name)


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Let torch draw on the CPU from ``seed``, then restore its random state.

    Args:
        seed: A whole number >= 0, or None to change nothing.

    Raises:
        TypeError: ``seed`` is not a whole number.
        ValueError: ``seed`` is negative.

    Example:
        >>> with seeded(0):
        ...     first = torch.rand(2)
        >>> with seeded(0):
        ...     torch.equal(first, torch.rand(2))
        True
    """
    if seed is None:
        yield
        return
    seed = check_count(seed, "seed", least=0)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def random_state() -> tuple[Any, ...]:
    """The random numbers of torch, of its devices, of Python and of NumPy."""
    ready = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = torch.cuda.get_rng_state_all() if ready else None
    legacy = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state(), devices, random.getstate(), legacy


def set_random_state(state: tuple[Any, ...]) -> None:
    """Draw on from where `random_state` was taken.

    Example:
        >>> before = random_state()
        >>> drawn = torch.rand(1), random.random()
        >>> set_random_state(before)
        >>> drawn == (torch.rand(1), random.random())
        True
    """
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state_all(state[1])
    random.setstate(state[2])
    np.random.set_state(state[3])  # noqa: NPY002


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Put every module back into training or evaluation mode at the end."""
    before = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def uses_cache(model: nn.Module) -> bool | None:
    """Whether a model of transformers keeps keys and values; None for other models.

    Their order in memory depends on it, so on some processors the last bits of its
    outputs do, too. Its Trainer switches it off while it trains.
    """
    config = _cache_config(model)
    return None if config is None else bool(config.use_cache)


@contextmanager
def cache_used(model: nn.Module, used: bool | None) -> Iterator[None]:
    """Have a model of transformers keep keys and values, or not, meanwhile.

    Example:
        >>> from types import SimpleNamespace
        >>> model = nn.Linear(1, 1)
        >>> model.config = SimpleNamespace(use_cache=True)
        >>> with cache_used(model, False):
        ...     print(uses_cache(model))
        False
        >>> uses_cache(model)
        True
    """
    config = _cache_config(model)
    if config is None or used is None:
        yield
        return
    before, config.use_cache = config.use_cache, used
    try:
        yield
    finally:
        config.use_cache = before


def _cache_config(model: nn.Module) -> Any:
    configs = (getattr(module, "config", None) for module in model.modules())
    return next((config for config in configs if hasattr(config, "use_cache")), None)


@contextmanager
def unchanged(model: nn.Module, optimizer: Optimizer | None = None) -> Iterator[None]:
    """Put a model back at the end: gradients, buffers, modes, torch's random state.

    Inside, gradients are None. Parameters are put back only together with the
    optimizer that may step them; without one, they may be drawn anew.

    Args:
        model: Any module.
        optimizer: Its optimizer; its state, rates and parameters are put back too.

    Example:
        >>> model = nn.BatchNorm1d(2)
        >>> with unchanged(model):
        ...     model(torch.randn(4, 2)).sum().backward()
        >>> model.weight.grad, int(model.num_batches_tracked)
        (None, 0)
    """
    parameters = list(model.parameters())
    kept: list[Tensor] = list(model.buffers())
    if optimizer is not None:
        parameters = list({*parameters, *parameters_of(optimizer)})
        kept += parameters
        state = copy.deepcopy(optimizer.state_dict())
    copies = [tensor.detach().clone() for tensor in kept]
    gradients = [(p, p.grad) for p in parameters]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    devices = sorted({p.get_device() for p in parameters if p.is_cuda})
    with torch.random.fork_rng(devices), kept_modes(model):
        try:
            for p in parameters:
                p.grad = None
            yield
        finally:
            for p, gradient in gradients:
                p.grad = gradient
            for module, before in buffers:
                module._buffers.update(before)
            with torch.no_grad():
                for tensor, value in zip(kept, copies, strict=True):
                    tensor.copy_(value)
            if optimizer is not None:
                optimizer.load_state_dict(state)


@contextmanager
def without_gradient_hooks(model: nn.Module) -> Iterator[None]:
    """Keep others' ``register_post_accumulate_grad_hook`` from running meanwhile.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> layer.weight.register_post_accumulate_grad_hook(lambda p: print("ran"))
        <torch.utils.hooks.RemovableHandle object at ...>
        >>> with without_gradient_hooks(layer):
        ...     layer(torch.ones(1, 1)).sum().backward()
        >>> layer(torch.ones(1, 1)).sum().backward()
        ran
    """
    found = [p._post_accumulate_grad_hooks for p in model.parameters()]
    kept = [(hooks, dict(hooks)) for hooks in found if hooks]
    for hooks, _ in kept:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in kept:
            hooks.update(before)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled models as written: hooks see every module, and nothing compiles."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
