"""Names of a package that load on first use, as its type stub lists them (SPEC 1).

Of our own, and not of lazy-loader: in Colab the chapters install gradlib without its
dependencies, so that they change nothing there, and stand on torch and its like alone.
"""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


class Face(ModuleType):
    """A package whose functions keep their names beside files and folders of the same.

    Importing ``gradlib.sweep`` sets the folder as an attribute of ``gradlib``; where
    the stub gives that name to a function of the folder, the function stays.
    """

    def __setattr__(self, name: str, value: object) -> None:
        homes = self.__dict__.get("_homes", {})
        shadows = isinstance(value, ModuleType) and homes.get(name)
        if not shadows or homes[name].split(".")[0] != name:
            super().__setattr__(name, value)


def attach_stub(
    package: str, file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package, from its stub.

    Args:
        package: ``__name__`` of the package.
        file: Its ``__file__``; the stub is the ``.pyi`` beside it.
    """
    homes: dict[str, str | None] = {}
    for node in ast.parse(Path(file).with_suffix(".pyi").read_text("utf8")).body:
        if isinstance(node, ast.ImportFrom):
            homes |= {alias.name: node.module for alias in node.names}
    module = sys.modules[package]
    module.__dict__["_homes"] = homes
    module.__class__ = Face

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name]
        if home is None:
            return import_module(f"{package}.{name}")
        found = getattr(import_module(f"{package}.{home}"), name)
        module.__dict__[name] = found
        return found

    names = sorted(homes)
    return load, lambda: list(names), names
