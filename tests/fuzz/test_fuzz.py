"""Every public function, with right and with wrong arguments.

Right arguments give a result, or an error that the docstring names. Wrong ones raise
``ValueError`` or ``TypeError`` with a message that names the argument. Either way
the caller's gradients, hooks, modes and random state are as before.

``make fuzz`` draws 10,000 examples of each function, at random; as part of the tests
it is 200, always the same ones.
"""

import importlib
import inspect
import re
import warnings
from types import ModuleType
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from book import ROOT
from hypothesis import given
from hypothesis import strategies as st
from kinds import Entry
from laws import unchanged
from measure_and_clip import TABLE as MEASURE_AND_CLIP
from models_and_initialization import TABLE as MODELS_AND_INITIALIZATION
from plotting import TABLE as PLOTTING
from theory import TABLE as THEORY
from training_and_diagnosis import TABLE as TRAINING_AND_DIAGNOSIS

import gradlib

TABLE = {
    **MEASURE_AND_CLIP,
    **MODELS_AND_INITIALIZATION,
    **PLOTTING,
    **TRAINING_AND_DIAGNOSIS,
    **THEORY,
}
WRONG = (ValueError, TypeError)


def documented_modules() -> list[ModuleType]:
    """All but the callbacks, which stand on frameworks that the tests do not need."""
    text = (ROOT / "reference/library.md").read_text("utf8")
    names = re.findall(r"automodule:: (\S+)", text)
    own = [name for name in names if not name.startswith("gradlib.integrations.")]
    return [importlib.import_module(name) for name in own]


def is_checked(value: Any) -> bool:
    """Functions, and classes that take arguments from a reader."""
    if inspect.isfunction(value):
        return True
    if not inspect.isclass(value) or value.__module__.startswith("gradlib.") is False:
        return False
    holds = issubclass(value, (tuple, Exception, torch.nn.Module))
    return not (holds or hasattr(value, "__dataclass_fields__") or is_protocol(value))


def is_protocol(value: type) -> bool:
    return bool(getattr(value, "_is_protocol", False))


def public() -> dict[str, Any]:
    """Public functions and classes by the module that a reader imports them from."""
    found = {}
    for module in documented_modules():
        names = getattr(module, "__all__", None)
        for name in names or [n for n in vars(module) if not n.startswith("_")]:
            value = getattr(module, name)
            home = getattr(value, "__module__", "") or ""
            if not home.startswith("gradlib") or not is_checked(value):
                continue
            if names is None and home != module.__name__:
                continue
            found[f"{module.__name__.removeprefix('gradlib.')}.{name}"] = value
    return found


def test_every_public_function_is_in_the_table() -> None:
    assert sorted(public()) == sorted(TABLE)


def test_every_name_of_the_library_has_a_home_that_is_documented() -> None:
    homes = list(public().values())
    for name in gradlib.__all__:
        value = getattr(gradlib, name)
        assert isinstance(value, ModuleType) or not is_checked(value) or value in homes


@pytest.fixture(autouse=True)
def _leave_no_figure() -> Any:
    torch.set_num_threads(1)
    matplotlib.use("Agg")
    style = dict(matplotlib.rcParams)
    yield
    plt.close("all")
    matplotlib.rcParams.update(style)


def names(error: Exception, name: str) -> bool:
    return bool(re.search(rf"\b({name})\b", str(error)))


def check(entry: Entry, data: st.DataObject) -> None:
    arguments = dict(data.draw(entry.good, label="arguments"))
    wrong = None
    if entry.bad and data.draw(st.integers(0, entry.slow), label="wrong if not 0"):
        wrong = data.draw(st.sampled_from(sorted(entry.bad)))
    if wrong is not None:
        arguments[wrong] = data.draw(st.sampled_from(entry.bad[wrong]), label=wrong)
    with warnings.catch_warnings(), unchanged(arguments.values(), entry.changes):
        warnings.simplefilter("ignore")
        try:
            entry.call(**arguments)
        except entry.errors:
            return
        except WRONG as error:
            if wrong is None or not names(error, entry.named.get(wrong, wrong)):
                raise
            return
        finally:
            plt.close("all")
    assert wrong is None, f"took {wrong}={arguments[wrong]!r}"


@pytest.mark.parametrize("name", sorted(TABLE))
def test_fuzz(name: str) -> None:
    entry = TABLE[name]

    @given(st.data())
    def examples(data: st.DataObject) -> None:
        check(entry, data)

    examples()
