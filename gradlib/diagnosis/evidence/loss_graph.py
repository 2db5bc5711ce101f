"""What the autograd graph of one loss tells: operations, reuse, foreign leaves."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

# Nodes that are read: a recurrent network of 500 steps has some 10,000.
MOST_NODES = 100_000
# Changes of shape between two softmaxes: a handful at most.
MOST_PASSED = 10
PASSED: tuple[str, ...] = (
    "View",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "T",
    "Permute",
)
PASSED += ("ToCopy", "Alias", "Clone", "Select", "Slice", "UnsafeView", "Index")
ROUNDING = ("Ceil", "Floor", "Round", "Trunc", "Sign", "Heaviside")
ROOTS = ("Log", "Sqrt", "Rsqrt")
SUMS = ("Add", "Sub", "Rsub", "Neg")
PRODUCTS = ("Mul", "Div")
TWICE = {"LogSoftmax": "Softmax", "BinaryCrossEntropyWithLogits": "Sigmoid"}


@dataclass
class LossGraph:
    """Facts about the graph behind a loss.

    Args:
        operations: How often each operation occurs (``"Relu"``, ``"Addmm"``, ...).
        uses: ``id`` of a parameter -> how many operations use it.
        leaves: All parameters that the loss depends on.
        twice: ``"Softmax"`` or ``"Sigmoid"`` where the loss applies it again.
        bare: ``id`` of parameters that enter a logarithm or a root as they are.
        own: Operations whose backward pass the owner has written.
    """

    operations: Counter[str] = field(default_factory=Counter)
    uses: Counter[int] = field(default_factory=Counter)
    leaves: list[Tensor] = field(default_factory=list)
    twice: str = ""
    bare: set[int] = field(default_factory=set)
    own: list[str] = field(default_factory=list)

    @property
    def rounding(self) -> list[str]:
        """Operations in the graph whose slope is zero everywhere."""
        return [name for name in ROUNDING if self.operations[name]]


def read_graph(loss: Tensor | None) -> LossGraph:
    """Walk the graph of a loss before or after its backward pass.

    Example:
        >>> import torch
        >>> w = nn.Parameter(torch.ones(3))
        >>> read_graph(torch.relu(w).sum()).operations["Relu"]
        1
    """
    graph = LossGraph()
    start = None if loss is None else loss.grad_fn
    if start is None:
        return graph
    queue: deque[Any] = deque([start])
    seen = {start}
    while queue and len(seen) < MOST_NODES:
        node = queue.popleft()
        name = short_name(node)
        graph.operations[name] += 1
        if isinstance(node, BackwardCFunction):
            graph.own.append(name)
        if name in TWICE and _enters(node) == TWICE[name]:
            graph.twice = TWICE[name]
        for following, _ in node.next_functions:
            if following is None:
                continue
            variable = getattr(following, "variable", None)
            if variable is not None:
                if name in ROOTS:
                    graph.bare.add(id(variable))
                graph.uses[id(variable)] += 1
                if following not in seen and isinstance(variable, nn.Parameter):
                    graph.leaves.append(variable)
            if following not in seen:
                seen.add(following)
                queue.append(following)
    return graph


def nodes_of(loss: Tensor) -> list[Any]:
    """All nodes of a graph, those near the loss first."""
    start = loss.grad_fn
    seen = {start: None} if start is not None else {}
    queue: deque[Any] = deque(seen)
    while queue and len(seen) < MOST_NODES:
        for following, _ in queue.popleft().next_functions:
            if following is not None and following not in seen:
                seen[following] = None
                queue.append(following)
    return list(seen)


def linear_nodes(loss: Tensor) -> set[Any]:
    """Nodes between a loss and its terms: sums, and products with numbers.

    Example:
        >>> import torch
        >>> w = torch.ones(1, requires_grad=True)
        >>> len(linear_nodes(2 * (w.exp() + 1))), len(linear_nodes(w.exp() * (w + 1)))
        (2, 0)
    """
    queue = [loss.grad_fn]
    found = set()
    while queue:
        node = queue.pop()
        if node is None or node in found:
            continue
        name = short_name(node)
        learned = [following for following, _ in node.next_functions if following]
        if name in SUMS or (name in PRODUCTS and len(learned) == 1):
            found.add(node)
            queue += learned
    return found


def short_name(node: Any) -> str:
    """``"Relu"`` for ``ReluBackward0``."""
    return str(node.name()).rsplit("::", 1)[-1].split("Backward")[0]


def _enters(node: Any) -> str:
    """Name of the operation whose result enters a node, shape changes left out."""
    current = node
    for _ in range(MOST_PASSED):
        nodes = [following for following, _ in current.next_functions if following]
        if not nodes:
            return ""
        current = nodes[0]
        if short_name(current) not in PASSED:
            return short_name(current)
    return ""
