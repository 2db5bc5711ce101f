"""Tensors that are cut over processes, as ``fully_shard`` cuts them.

Each process holds one part of such a tensor (a ``DTensor``). A norm that leaves the
library is that of the whole, the same in every process. It takes one sum over the
processes, so all of them must ask for it.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = {Tensor, nn.Parameter}


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a ``DTensor``.

    Example:
        >>> is_sharded(torch.zeros(2))
        False
    """
    return hasattr(tensor, "placements")


def check_one_process(model: nn.Module) -> None:
    """Refuse a model whose processes would have to agree on every trial.

    Raises:
        ValueError: the model is distributed over several processes.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return
    ranks = distributed.get_world_size()
    kinds = {type(m).__name__ for m in model.modules()}
    wrapped = kinds & {"DistributedDataParallel", "FullyShardedDataParallel"}
    sharded = any(map(is_sharded, model.parameters()))
    if ranks > 1 and (wrapped or sharded):
        raise ValueError(
            "model: expected a model on one process, got "
            f"{', '.join(sorted(wrapped)) or 'parameters sharded (FSDP2)'} over "
            f"{ranks} processes, which would wait for each other for ever. Start one "
            "process, or take a plain copy of the model on one rank"
        )


def parts_of(tensors: list[Tensor]) -> list[Tensor]:
    """What this process holds of each tensor; the same list if none is cut.

    A tensor whose processes hold terms of a sum is summed first.
    """
    if _PLAIN.issuperset(map(type, tensors)) or not any(map(is_sharded, tensors)):
        return tensors
    return [_part_of(t) if is_sharded(t) else t for t in tensors]


def _part_of(tensor: Any) -> Tensor:
    if any(placement.is_partial() for placement in tensor.placements):
        whole: Tensor = tensor.full_tensor()
        return whole
    part: Tensor = tensor.to_local()
    return part


def whole_norms(norms: list[Tensor], tensors: list[Any], order: float) -> list[Tensor]:
    """Norms of whole tensors from the norms of this process's parts.

    ||w||^p is the sum of ||w_r||^p over the processes r that share w; the largest
    absolute value is the largest of theirs. One exchange for each group of processes,
    in float64.

    Args:
        norms: Norms of `parts_of` the tensors.
        tensors: The tensors, cut or not.
        order: p.
    """
    from torch import distributed

    largest = order == math.inf
    operation = distributed.ReduceOp.MAX if largest else distributed.ReduceOp.SUM
    shared: dict[Any, list[int]] = {}
    for place, tensor in enumerate(tensors):
        if not is_sharded(tensor):
            continue
        for dimension, placement in enumerate(tensor.placements):
            if placement.is_shard():
                group = tensor.device_mesh.get_group(dimension)
                shared.setdefault(group, []).append(place)
    whole = list(norms)
    for group, places in shared.items():
        sizes = torch.stack([whole[place] for place in places]).double()
        powers = sizes if largest else sizes**order
        distributed.all_reduce(powers, operation, group=group)
        joined = powers if largest else powers ** (1 / order)
        for place, size in zip(places, joined, strict=True):
            whole[place] = size.to(norms[place].dtype)
    return whole
