"""Remember everything that a training can change, and put it back."""

import random
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradlib.state import random_state, set_random_state

MOST_OBJECTS = 50_000
LONGEST_CONTAINER = 10_000
SKIPPED = (type, types.ModuleType, types.BuiltinFunctionType, str, bytes, np.dtype)


class SavedState:
    """The state of all objects that some roots lead to.

    Walks attributes, containers, closures and bound methods from the roots (a model,
    an optimizer, an update function, ...) and copies what can change on the way:
    tensors with their gradients, containers, attributes, variables of closures,
    generators, and the global random states. Hooks, modes, buffers, optimizer
    state and learning rates are containers, attributes and tensors, so they need no
    care of their own.

    Args:
        roots: Where to start.

    Example:
        >>> model = torch.nn.BatchNorm1d(2)
        >>> before = SavedState([model])
        >>> _ = model(torch.randn(4, 2)); _ = model.eval()
        >>> before.restore()
        >>> model.training, int(model.num_batches_tracked)
        (True, 0)
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self._undo: list[Callable[[], None]] = []
        self._seen: dict[int, Any] = {}
        self.random_state = random_state()
        queue = deque(roots)
        while queue and len(self._seen) < MOST_OBJECTS:
            item = queue.popleft()
            if item is None or isinstance(item, (bool, int, float, *SKIPPED)):
                continue
            if id(item) not in self._seen:
                self._seen[id(item)] = item
                queue.extend(self._remember(item))

    def restore(self) -> None:
        """Put everything back."""
        for undo in self._undo:
            undo()
        set_random_state(self.random_state)

    def objects(self, kind: type) -> list[Any]:
        """All objects of one kind that the roots lead to."""
        return [item for item in self._seen.values() if isinstance(item, kind)]

    def _remember(self, item: Any) -> Iterable[Any]:
        if isinstance(item, Tensor):
            return self._tensor(item)
        if isinstance(item, types.FunctionType):
            return self._function(item)
        if isinstance(item, types.MethodType):
            return (item.__self__, item.__func__)
        if isinstance(item, partial):
            return (item.func, *item.args, *item.keywords.values())
        if isinstance(item, torch.Generator):
            self._undo.append(_generator_undo(item))
            return ()
        if isinstance(item, (np.random.Generator, random.Random)):
            self._undo.append(_generator_undo(item))
            return ()
        if isinstance(item, np.ndarray):
            self._undo.append(partial(np.copyto, item, item.copy()))
            return ()
        if isinstance(item, (tuple, frozenset)):
            return item if len(item) <= LONGEST_CONTAINER else ()
        if isinstance(item, (list, dict, set, deque)):
            return self._container(item)
        return self._attributes(item)

    def _tensor(self, tensor: Tensor) -> Iterable[Any]:
        value = tensor.detach().clone()
        wanted = tensor.requires_grad

        def undo() -> None:
            if tensor.data.dtype != value.dtype or tensor.shape != value.shape:
                tensor.data = value.clone()
            else:
                tensor.data.copy_(value)
            if tensor.is_leaf and tensor.requires_grad != wanted:
                tensor.requires_grad_(wanted)

        self._undo.append(undo)
        if tensor.is_leaf:
            gradient = tensor.grad
            kept = None if gradient is None else gradient.detach().clone()

            def undo_gradient() -> None:
                tensor.grad = gradient
                if gradient is not None and kept is not None:
                    gradient.data.copy_(kept)

            self._undo.append(undo_gradient)
        return ()

    def _function(self, function: types.FunctionType) -> Iterable[Any]:
        found: list[Any] = list(function.__defaults__ or ())
        found += (function.__kwdefaults__ or {}).values()
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                continue
            self._undo.append(partial(setattr, cell, "cell_contents", content))
            found.append(content)
        module = function.__globals__
        if not str(module.get("__name__", "")).startswith(("torch.", "numpy.")):
            for name in function.__code__.co_names:
                value = module.get(name)
                if value is None or isinstance(value, SKIPPED):
                    continue
                self._undo.append(partial(module.__setitem__, name, value))
                found.append(value)
        return found

    def _container(self, item: Any) -> Iterable[Any]:
        if len(item) > LONGEST_CONTAINER:
            return ()
        if isinstance(item, dict):
            entries = dict(item)

            def undo_dict() -> None:
                item.clear()
                item.update(entries)

            self._undo.append(undo_dict)
            return (*entries.keys(), *entries.values())
        content = list(item)

        def undo() -> None:
            item.clear()
            item.update(content) if isinstance(item, set) else item.extend(content)

        self._undo.append(undo)
        return content

    def _attributes(self, item: Any) -> Iterable[Any]:
        attributes = getattr(item, "__dict__", None)
        if not isinstance(attributes, dict):
            return ()
        entries = dict(attributes)

        def undo() -> None:
            attributes.clear()
            attributes.update(entries)

        self._undo.append(undo)
        return entries.values()


def _set_generator(item: torch.Generator, state: Tensor) -> Callable[[], None]:
    def undo() -> None:
        item.set_state(state)

    return undo


def _generator_undo(item: Any) -> Callable[[], None]:
    if isinstance(item, torch.Generator):
        return _set_generator(item, item.get_state())
    if isinstance(item, random.Random):
        return partial(item.setstate, item.getstate())
    return partial(setattr, item.bit_generator, "state", item.bit_generator.state)


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Put the global random states back at the end, also after an error."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)
