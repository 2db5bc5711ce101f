"""Measure, clip and diagnose the gradients of PyTorch models.

The helper library of the book *Exploding Gradients*. Drawing lives in
``gradlib.plotting`` and ``gradlib.figures`` and is imported only on request.
"""

from importlib import import_module

_HOMES = {"diagnose": "diagnosis", "diagnose_history": "diagnosis"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"gradlib.{_HOMES[name]}"), name)
    raise AttributeError(name)
