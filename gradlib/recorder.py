"""Record what it takes to run the last steps of a training again, should it die."""

import atexit
import math
import warnings
import weakref
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, Self, SupportsFloat

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from gradlib.checks import check_count, check_limit, check_model
from gradlib.hooks import Hooks, at_the_end
from gradlib.measure.sharded import check_one_process
from gradlib.measure.tensors import (
    DeferredNorms,
    DeferredNumbers,
    dense_of,
    kind_of,
    norms_of,
    number_of,
)
from gradlib.plain_values import plain, tensors_in
from gradlib.state import (
    bare_optimizer,
    loss_in,
    parameters_of,
    plain_name,
    random_state,
    runs_closure,
    uses_cache,
)
from gradlib.training_state import State, TrainingState
from gradlib.whole_file import save_whole

__all__ = ["FlightRecorder"]

FORMAT = 1
Entry = dict[str, Any]


class FlightRecorder:
    """The black box of a training: what its last steps need to be run again.

    Every ``every`` steps it copies the state of the training; since then it keeps the
    batches, with the random numbers at which each began. At the first loss, gradient
    or parameter that is not finite it writes all of it to ``path``, warns, and records
    no more. `gradlib.replay` runs these steps again, to the death.

    Hooks do it, also where the loop belongs to a framework: a batch is what the model
    is called with, a step ends with ``optimizer.step()``. Where the targets do not pass
    through the model, hand over whole batches, ``map(recorder.batch, data)``. Several
    micro-batches in a step are kept apart; a step that the loop leaves out, with its
    gradients set to None, is left out here too. What cannot be replayed is refused: a
    model over several processes, an optimizer that takes a closure, parameters that are
    not the model's, a batch of something else than numbers and text.

    A copy takes the memory of the model and of what the optimizer holds (under Adam
    three times the model), in main memory, or, with ``in_memory=False``, on disk beside
    ``path``. `nbytes` tells how much it takes, batches included.

    Under a ``scaler`` gradients that are not finite are its business; the recorder
    waits for a parameter, or for a scale below 1.

    Args:
        model: The model that the loop calls; if it is compiled, the compiled one.
        optimizer: Its optimizer, also inside a wrapper such as Accelerate's.
        path: The file to write; it is written whole or not at all.
        every: Copy the state each so many steps.
        scheduler: Its schedule, if a resumed training should find it in the file.
        scaler: The `torch.amp.GradScaler` of the loop.
        clip: The norm that the loop clips at, which `replay` then does too.
        autocast: The type of the loop's autocast, if the model does not enter it.
        first_step: Number of the first step.
        in_memory: Keep the copy of the state in memory, rather than on disk.

    Attributes:
        step: Number of the step that is going on.
        reason: What was not finite; empty as long as all is well.
        is_open: Whether it still records.

    Raises:
        TypeError: the model or the optimizer is something else.
        ValueError: it cannot be replayed, or a number cannot be right.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "black_box.pt"
        >>> model = nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> recorder = FlightRecorder(model, sgd, path=path)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     for x in map(recorder.batch, [torch.ones(2), torch.tensor(math.nan)]):
        ...         sgd.zero_grad()
        ...         model(x * torch.ones(3, 2)).sum().backward()
        ...         sgd.step()
        >>> recorder.reason
        'gradient of weight is nan'
        >>> len(torch.load(path, weights_only=True)["steps"])
        2
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        path: str | PathLike[str],
        every: int = 50,
        scheduler: Any = None,
        scaler: GradScaler | None = None,
        clip: float | None = None,
        autocast: torch.dtype | None = None,
        first_step: int = 0,
        in_memory: bool = True,
    ) -> None:
        check_model(model)
        check_one_process(model)
        if not isinstance(path, (str, PathLike)):
            raise TypeError(f"path: expected a path, got {type(path).__name__}")
        self.path = Path(path)
        self.every = check_count(every, "every")
        self.step = check_count(first_step, "first_step", least=0)
        self.clip = check_limit(clip, "clip")
        if autocast is not None and not isinstance(autocast, torch.dtype):
            raise TypeError(f"autocast: expected a type of torch, got {autocast!r}")
        self.autocast = autocast
        optimizer = bare_optimizer(optimizer)
        scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self.reason = ""
        self.is_open = True
        self._names = _names_of(model, optimizer)
        self._parameters = parameters_of(optimizer)
        modules = dict(model.named_modules())
        self._module_names = list(map(plain_name, modules))
        self._modules = list(modules.values())
        self._training = TrainingState(model, optimizer, scheduler, scaler)
        self._scaler = scaler
        self._scale = self._scale_now()
        beside = self.path.with_name(f"{self.path.name}.state")
        self._state_path = None if in_memory else beside
        self._state: State | None = None
        self._state_step: int | None = None
        self._steps: list[Entry] = []
        self._entries: list[Entry] = []
        self._options: list[Any] = []
        self._is_told = False
        self._waiting: list[tuple[str, DeferredNumbers | DeferredNorms]] = []
        self._norms: DeferredNorms | None = None
        self._hooks = Hooks()
        self._hooks.keep(
            model.register_forward_pre_hook(
                _Forward(self, "_before_forward"), with_kwargs=True
            ),
            model.register_forward_hook(_Forward(self, "_after_forward")),
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        )
        _OPEN.add(self)

    def batch(self, batch: Any) -> Any:
        """Hand over a batch before the model is called; gives it back.

        From the first call on, what the model is called with is no longer recorded.

        Raises:
            TypeError: it holds something else than numbers and text.
        """
        if self.is_open:
            self._is_told = True
            self._begin({"batch": plain(batch), "is_call": False, "is_used": True})
        return batch

    def log(self, loss: Tensor | SupportsFloat) -> None:
        """Tell the loss, where the model does not return it; its death then counts.

        Raises:
            TypeError: it is not a number.
            ValueError: a tensor holds more or less than one number.
        """
        number = number_of(loss, "loss")
        if self.is_open:
            if not isinstance(number, Tensor):
                number = torch.tensor(number, dtype=torch.float64)
            self._note_loss(number)
            self._look_if_near()

    @property
    def nbytes(self) -> int:
        """Memory that it takes at most, as the state and the last step's batches are.

        Before the first step neither the batches nor the optimizer's moments are known.
        """
        last = self._steps[-1]["batches"] if self._steps else self._entries
        batches = sum(t.nbytes for entry in last for t in tensors_in(entry))
        in_memory = self._state_path is None
        return in_memory * self._training.nbytes() + self.every * batches

    def write(self, reason: str = "asked for") -> None:
        """Write the file now, with the steps since the last copy of the state.

        Raises:
            RuntimeError: there is no step yet.
            OSError: it could not be written.
        """
        if self._state_step is None:
            raise RuntimeError("expected a step to write, got none yet")
        steps = list(self._steps)
        if self._entries:
            steps.append(self._step_record())
        state = self._state
        if self._state_path is not None:
            state = torch.load(self._state_path, weights_only=True)
        optimizer = self._training.optimizer
        content = {
            "format": FORMAT,
            "torch": str(torch.__version__),
            "reason": reason,
            "optimizer": f"{type(optimizer).__module__}.{type(optimizer).__qualname__}",
            "names": self._names,
            "modules": self._module_names,
            "sizes": [len(group["params"]) for group in optimizer.param_groups],
            "state": state,
            "steps": steps,
            "clip": self.clip,
            "autocast": self.autocast,
            "use_cache": uses_cache(self._modules[0]),
        }
        save_whole(content, self.path)

    def close(self) -> None:
        """Stop recording: look once more, remove all hooks, forget the batches."""
        if self.is_open:
            self._look()
            self._note_scale()
        if self.is_open:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        if kind is not None and issubclass(kind, Exception) and self.is_open:
            self._look()
            if self.is_open and self._state_step is not None:
                self._die(f"{kind.__name__}: {details[0]}")
        self.close()

    def _begin(self, entry: Entry) -> None:
        """A micro-batch begins."""
        self._look()
        self._note_scale()
        if not self.is_open:
            return
        is_used = any(entry["is_used"] for entry in self._entries)
        if is_used and all(p.grad is None for p in self._parameters):
            self._entries, self._norms = [], None  # that step was not made
        if not self._entries:
            self._copy_if_due()
        entry |= {
            "random": plain(random_state(), "random state"),
            "modes": [module.training for module in self._modules],
            "factor": None,
            "loss": None,
        }
        self._entries.append(entry)

    def _copy_if_due(self) -> None:
        if self._state_step is not None and self.step - self._state_step < self.every:
            return
        if name := self._broken_parameter():
            if self._state_step is not None:
                self._die(name)
                return
            self.reason = name
            self._warn(f"{name} at the first step. There is nothing to record.")
            self._end()
            return
        state = self._training.copy()
        try:
            schedule = plain(state["scheduler"], "scheduler")
        except TypeError:
            schedule = None  # one of functions, which a replay does without
        state = plain(state | {"scheduler": schedule}, "state")
        self._state = state
        if self._state_path is not None:
            self._state = None
            try:
                save_whole(state, self._state_path)
            except OSError as error:
                self._warn(f"{self._state_path}: expected to write it, got {error}.")
                self._end()
                return
        self._state_step = self.step
        self._steps = []

    def _before_forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._is_told or not torch.is_grad_enabled():
            return
        if torch.compiler.is_compiling():
            return
        call = {"args": plain(args, "inputs"), "kwargs": plain(kwargs, "inputs")}
        self._begin({"batch": call, "is_call": True, "is_used": False})

    def _after_forward(self, module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        if not self._entries:
            return
        entry = self._entries[-1]
        loss = loss_in(output)
        is_loss = isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad
        if is_loss:
            self._note_loss(loss)
        ends = [loss] if is_loss else _outputs(output)
        reference = weakref.ref(self)

        def reached(gradient: Tensor) -> None:
            recorder = reference()
            if recorder is None or not recorder.is_open:
                return
            entry["is_used"] = True
            if is_loss:
                entry["factor"] = gradient.detach().clone()
            at_the_end(recorder._measure)

        for tensor in ends[:1]:
            tensor.register_hook(reached)
        self._look_if_near()

    def _note_loss(self, loss: Tensor) -> None:
        loss = loss.detach().clone()
        if self._entries:
            self._entries[-1]["loss"] = loss
        if self._scaler is None:
            self._waiting.append(("loss", DeferredNumbers([loss.reshape(())])))

    @torch.no_grad()
    def _measure(self) -> None:
        """Take the norms of the gradients that there are by now."""
        grads = [g for p in self._parameters if (g := p.grad) is not None]
        if not grads or not self.is_open:
            return
        self._norms = DeferredNorms(dense_of(grads))
        self._norms.send()
        if self._scaler is None:
            self._waiting.append(("gradient", self._norms))
        self._look_if_near()

    def _look_if_near(self) -> None:
        """Look at once where no device has to be waited for."""
        if all(p.is_cpu for p in self._parameters[:1]):
            self._look()

    def _look(self) -> None:
        waiting, self._waiting = self._waiting, []
        for what, deferred in waiting:
            numbers = deferred.read()
            if not all(map(math.isfinite, numbers)) and self.is_open:
                self._die(self._told(what, numbers))

    def _told(self, what: str, numbers: list[float]) -> str:
        if what == "loss":
            return f"loss is {numbers[0]}"
        for name, p in zip(self._names, self._parameters, strict=True):
            if p.grad is not None and (kind := kind_of(p.grad)):
                return f"gradient of {name} is {kind}"
        return "a gradient was not finite"

    def _broken_parameter(self) -> str:
        model = self._training.model
        named = [(n, p) for n, p in model.named_parameters() if p.is_floating_point()]
        numbers = DeferredNumbers(norms_of([p.detach() for _, p in named])).read()
        if not all(map(math.isfinite, numbers)):
            for name, p in named:
                if kind := kind_of(p):
                    return f"parameter {plain_name(name)} is {kind}"
        return ""

    def _scale_now(self) -> float:
        return 1.0 if self._scaler is None else self._scaler.get_scale()

    def _note_scale(self) -> None:
        """A scale that has fallen tells that the scaler skipped the last step."""
        scale = self._scale_now()
        if scale < self._scale and self.is_open:
            if any(entry["is_used"] for entry in self._entries):
                self._options = plain(self._training.options(), "optimizer")
                self._end_step()
            if scale < 1 and self._state_step is not None:
                self._die(f"the loss scale fell to {scale:g}")
        self._scale = scale

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if runs_closure(args, kwargs):
            self._end()
            raise ValueError(
                "optimizer: expected a step without a closure, which runs the model "
                "within it, got one. Such a training cannot be replayed."
            )
        if not any(entry["is_used"] for entry in self._entries):
            self._end()
            raise RuntimeError(
                "expected a call of the model and a backward pass before the step, saw "
                "none. Hand over each batch, recorder.batch(batch); if the model is "
                "compiled, give FlightRecorder the compiled one."
            )
        self._options = plain(self._training.options(), "optimizer")

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self.is_open:
            self._end_step()

    def _end_step(self) -> None:
        self._steps.append(self._step_record())
        self._entries, self._options, self._norms = [], [], None
        self.step += 1

    def _step_record(self) -> Entry:
        used = [entry for entry in self._entries if entry["is_used"]]
        return {
            "step": self.step,
            "batches": used or self._entries,
            "options": self._options or plain(self._training.options(), "optimizer"),
            "norms": [] if self._norms is None else self._norms.read(),
        }

    def _die(self, reason: str) -> None:
        self.reason = reason
        step = self.step if self._entries else self.step - 1
        if self._entries and not self._entries[-1]["is_used"]:
            self._entries[-1]["is_used"] = True  # it died before its backward pass
            self._norms = None
        try:
            self.write(reason)
        except OSError as error:
            self._warn(f"{self.path}: expected to write it, got {error}.")
        else:
            self._warn(
                f"step {step}: {reason}. The last steps are in {self.path}; "
                "gradlib.replay runs them again."
            )
        self._end()

    def _warn(self, told: str) -> None:
        warnings.warn(f"{told} The training goes on unrecorded.", stacklevel=4)

    def _end(self) -> None:
        self.is_open = False
        self._hooks.close()
        self._state, self._steps, self._entries, self._waiting = None, [], [], []
        if self._state_path is not None:
            self._state_path.unlink(missing_ok=True)


class _Forward:
    """A hook of the model; a copy of the model has a blind one."""

    def __init__(self, recorder: FlightRecorder | None, method: str) -> None:
        self._recorder: Callable[[], FlightRecorder | None] = (
            (lambda: None) if recorder is None else weakref.ref(recorder)
        )
        self._method = method

    def __call__(self, module: nn.Module, args: Any, last: Any) -> None:
        recorder = self._recorder()
        if recorder is not None and recorder.is_open:
            getattr(recorder, self._method)(module, args, last)

    def __reduce__(self) -> tuple[type["_Forward"], tuple[None, str]]:
        return _Forward, (None, self._method)


def _names_of(model: nn.Module, optimizer: Optimizer) -> list[str]:
    """Names of the optimizer's parameters in the model."""
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError(
            "optimizer: expected one whose step needs no closure, got LBFGS, which "
            "runs the model within its step. Such a training cannot be replayed."
        )
    names = {id(p): plain_name(name) for name, p in model.named_parameters()}
    parameters = parameters_of(optimizer)
    if not parameters or not all(id(p) in names for p in parameters):
        raise ValueError(
            "optimizer: expected parameters of the model and no others, got "
            f"{sum(id(p) not in names for p in parameters)} others of "
            f"{len(parameters)}. Put what else is trained into one module with the "
            "model, and record that."
        )
    return [names[id(p)] for p in parameters]


def _outputs(output: Any) -> list[Tensor]:
    """Tensors of a model's output that a backward pass can reach."""
    found: list[Tensor] = torch.utils._pytree.tree_leaves(output)
    if not any(isinstance(leaf, Tensor) for leaf in found):
        found = list(getattr(output, "__dict__", {}).values())
    return [t for t in found if isinstance(t, Tensor) and t.requires_grad]


_OPEN: "weakref.WeakSet[FlightRecorder]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for recorder in list(_OPEN):
        recorder.close()
