"""Sparse gradients, such as those of an embedding with ``sparse=True``."""

import torch
from torch import Tensor


def values_of(tensor: Tensor) -> Tensor:
    """The values of a tensor, of a sparse one those that it stores; without a graph.

    Values that a sparse tensor stores for the same index are summed: its norm is
    then that of the dense tensor.

    Example:
        >>> embedding = torch.nn.Embedding(5, 1, sparse=True)
        >>> embedding(torch.tensor([3, 3])).sum().backward()
        >>> values_of(embedding.weight.grad)
        tensor([[2.]])
    """
    tensor = tensor.detach()
    return tensor if tensor.layout is torch.strided else tensor.coalesce().values()
