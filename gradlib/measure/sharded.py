"""Models that several processes train, and tensors that are cut over them.

Each process holds one part of a tensor that ``fully_shard`` has cut (a ``DTensor``).
A norm that leaves the library is that of the whole, the same in every process. It takes
one sum over the processes, so all of them must ask for it.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = {Tensor, nn.Parameter}
_WRAPPERS = ("DistributedDataParallel", "FullyShardedDataParallel")


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a ``DTensor``.

    Example:
        >>> is_sharded(torch.zeros(2))
        False
    """
    return hasattr(tensor, "placements")


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
        if largest:  # of NaN and a number, a backend may take the number
            sizes = torch.stack([sizes.nan_to_num(nan=math.inf), sizes.isnan()])
        powers = sizes if largest else sizes**order
        distributed.all_reduce(powers, operation, group=group)
        joined = powers ** (1 / order)
        if largest:
            joined = powers[0].masked_fill(powers[1] > 0, math.nan)
        for place, size in zip(places, joined, strict=True):
            whole[place] = size.to(norms[place].dtype)
    return whole


def has_whole_rows(tensor: Any) -> bool:
    """Whether each slice along the first axis lies in one process.

    A vector counts as one that does: it has one norm, which `whole_norms` finds.
    """
    return tensor.ndim < 2 or all(
        placement.is_replicate() or placement.is_shard(0)
        for placement in getattr(tensor, "placements", ())
    )


def whole_of(tensor: Any) -> Tensor:
    """The tensor itself; of one that is cut, all of it in every process."""
    whole: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor
    return whole


def groups_of(model: nn.Module) -> list[Any]:
    """The groups of processes that train a model together; none for a plain model."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return []
    groups: list[Any] = []
    for module in model.modules():
        if type(module).__name__ in _WRAPPERS:
            groups.append(module.process_group)
    for p in filter(is_sharded, model.parameters()):
        mesh: Any = p.device_mesh  # type: ignore[attr-defined]
        groups += mesh.get_all_groups()
    return [g for g in dict.fromkeys(groups) if distributed.get_world_size(g) > 1]


def check_one_process(model: nn.Module) -> None:
    """Refuse a model whose processes would have to agree on every trial.

    Raises:
        ValueError: the model is distributed over several processes.
    """
    from torch import distributed

    for group in groups_of(model):
        ranks = distributed.get_world_size(group)
        raise ValueError(
            f"model: expected a model on one process, got one that {ranks} processes "
            "train (DistributedDataParallel, fully_shard), which would wait for each "
            "other for ever. Start one process, or diagnose a plain copy of the model "
            "on one rank"
        )


def mean_over(groups: list[Any], number: Tensor) -> Tensor:
    """The mean of a scalar over groups of processes, so that all decide alike."""
    from torch import distributed

    for group in groups:
        number = number.clone()
        distributed.all_reduce(number, group=group)
        number = number / distributed.get_world_size(group)
    return number


def gathered(mine: Any, group: Any) -> list[Any]:
    """What each process of a group hands in, the same list in all of them."""
    from torch import distributed

    found = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(found, mine, group=group)
    return found
