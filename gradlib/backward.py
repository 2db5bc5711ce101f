"""Notice the end of each backward pass that reaches parameters, at little cost."""

import weakref
from collections import deque
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from gradlib.hooks import Handle

NO_BACKWARD = -1
LEARNED_AFTER = 8
"""Steps with a hook in Python on each parameter. What comes first in a backward pass
shows in the first one; networks that take turns, or losses, need some more."""

current_backward = torch._C._current_graph_task_id


def at_the_end(callback: Callable[[], None]) -> None:
    """Have a function called when the backward pass that runs now has ended."""
    torch.autograd.Variable._execution_engine.queue_callback(callback)


class BackwardPasses:
    """Calls a function in each backward pass that reaches parameters, once.

    torch calls a hook of a parameter when its gradient is there, and a hook in Python
    costs more than all else that watches a small layer. So after some steps only those
    parameters keep one that came first in some backward pass. The others get a method
    that is written in C, and only tells that they were reached. A backward pass that
    reaches none of the first ones is not noticed until `has_missed` is asked.

    Args:
        begins: A method; called inside the backward pass. It is held weakly, for torch
            holds the hooks of tensors where the collector of cycles sees them not.

    Example:
        >>> class Counter:
        ...     passes = 0
        ...
        ...     def count(self):
        ...         self.passes += 1
        >>> counter, p = Counter(), torch.ones(1, requires_grad=True)
        >>> passes = BackwardPasses(counter.count)
        >>> passes.watch([p])
        >>> (2 * p).backward()
        >>> counter.passes
        1
        >>> passes.close()
    """

    def __init__(self, begins: Callable[[], None]) -> None:
        self._begins = weakref.WeakMethod(begins)
        self._parameters: list[Tensor] = []
        self._handles: list[Handle] = []
        self._first: dict[int, Tensor] = {}
        self._reached: deque[Tensor] = deque(maxlen=1)
        self._last = [NO_BACKWARD]
        self._left = 0

    def watch(self, parameters: Iterable[Tensor]) -> None:
        """Look at further parameters."""
        self._parameters += parameters
        self._learn()

    @property
    def has_missed(self) -> bool:
        """Whether a backward pass since the last `clear` was not noticed."""
        return bool(self._reached)

    def clear(self) -> None:
        """Forget what was reached: it has been measured, or is not to be."""
        self._reached.clear()

    def end_step(self) -> None:
        """Go over to few hooks, once enough steps have shown where passes begin."""
        self._reached.clear()
        if self._left:
            self._left -= 1
            if not self._left and self._first:
                self._hook(self._first)

    def relearn(self) -> None:
        """Look at all parameters again, after a pass that was missed."""
        self._reached.clear()
        self._learn()

    def close(self) -> None:
        """Remove all hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._reached.clear()

    def _learn(self) -> None:
        self._left = LEARNED_AFTER
        self._hook({id(p): p for p in self._parameters})

    def _hook(self, leaders: dict[int, Tensor]) -> None:
        """Give these parameters a hook in Python, and the others one in C."""
        self.close()
        reference = weakref.ref(self)
        last = self._last

        def lead(parameter: Tensor) -> None:
            backward = current_backward()
            if backward != last[0]:
                last[0] = backward
                if passes := reference():
                    passes._begin(parameter)

        for p in self._parameters:
            hook = lead if id(p) in leaders else self._reached.append
            handle = p.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
            self._handles.append(handle)

    def _begin(self, parameter: Tensor) -> None:
        self._first[id(parameter)] = parameter
        begins = self._begins()
        if begins is not None:
            begins()
