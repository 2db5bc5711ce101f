"""Models of one shape that train side by side, each by its own rules."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from gradlib.checks import check_list, check_type


class Ensemble:
    """Computes the gradients of many models of one shape at once.

    The weights are stacked along a first axis, and each model becomes a view of its
    slice. So one call of `backward` serves all, and everything else treats a model as
    if it were alone: its optimizer, its clipping, its monitor. What works element by
    element, as Adam at one rate, can step all of ``weights`` at once and costs less.

    Args:
        models: Modules that differ in nothing but the values of their weights, without
            buffers that a forward pass changes.

    Attributes:
        models: The same modules; their parameters now are slices of the stack.
        weights: The stacked weights by name, shape (models, ...); `backward` puts the
            stacked gradients into their ``grad``.

    Raises:
        TypeError: ``models`` is no list of modules.
        ValueError: the list is empty, or the models differ in shape.

    Example:
        >>> import torch
        >>> models = [nn.Linear(2, 1, bias=False) for _ in range(3)]
        >>> ensemble = Ensemble(models)
        >>> x, y = torch.ones(3, 8, 2), torch.zeros(3, 8, 1)
        >>> losses = ensemble.backward(nn.functional.mse_loss, x, y)
        >>> losses.shape, models[2].weight.grad.shape
        (torch.Size([3]), torch.Size([1, 2]))
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models = check_list(models, "models")
        for model in self.models:
            check_type(nn.Module, models=model)
        shapes = [
            {name: p.shape for name, p in model.named_parameters()}
            for model in self.models
        ]
        if not shapes or any(shape != shapes[0] for shape in shapes):
            raise ValueError(
                "models: expected one model or more, all of one shape. Put models of "
                "different shapes into ensembles of their own."
            )
        weights, self.buffers = stack_module_state(self.models)
        self.weights = {n: w.detach().requires_grad_() for n, w in weights.items()}
        self.slices: list[list[nn.Parameter]] = []
        for k, model in enumerate(self.models):
            mine = dict(model.named_parameters())
            self.slices.append([mine[name] for name in self.weights])
            for name, parameter in mine.items():
                parameter.data = self.weights[name].detach()[k]

    def backward(
        self, loss_fn: Callable[[Any, Any], Tensor], inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """Put each model's gradients into the ``grad`` of its parameters.

        The ``grad`` of the stacked weights holds the same numbers.

        Args:
            loss_fn: Takes a model's outputs and targets, returns a scalar tensor.
            inputs: Shape (models, batch, ...): a batch for each model.
            targets: As many.

        Returns:
            The loss of each model, shape (models,).

        Raises:
            TypeError: inputs or targets are no tensors.
            ValueError: their first axis is not the number of models, or a loss is not
                one number.
        """
        check_type(Tensor, inputs=inputs, targets=targets)
        for name, tensor in (("inputs", inputs), ("targets", targets)):
            if not tensor.ndim or len(tensor) != len(self.models):
                raise ValueError(
                    f"{name}: expected shape ({len(self.models)}, batch, ...), one "
                    f"batch for each model, got {tuple(tensor.shape)}. Write "
                    f"{name}.expand({len(self.models)}, ...) to share one."
                )

        def loss(weights: Any, buffers: Any, x: Tensor, y: Tensor) -> Tensor:
            outputs = functional_call(self.models[0], (weights, buffers), (x,))
            return loss_fn(outputs, y)

        losses: Tensor = vmap(loss, randomness="different")(
            self.weights, self.buffers, inputs, targets
        )
        if losses.shape != (len(self.models),):
            raise ValueError(
                "loss_fn: expected one number for each model, got shape "
                f"{tuple(losses.shape[1:])}. Let it take the mean."
            )
        stacked = torch.autograd.grad(
            losses.sum(), list(self.weights.values()), materialize_grads=True
        )
        # A fused optimizer reads gradients in memory order, whatever their strides.
        whole = [gradient.contiguous() for gradient in stacked]
        for weight, gradient in zip(self.weights.values(), whole, strict=True):
            weight.grad = gradient
        split = [gradient.unbind() for gradient in whole]
        for k, mine in enumerate(self.slices):
            for parameter, gradients in zip(mine, split, strict=True):
                parameter.grad = gradients[k]
        return losses.detach()
