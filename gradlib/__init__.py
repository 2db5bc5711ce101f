"""Measure, clip and diagnose the gradients of PyTorch models.

The helper library of the book *Exploding Gradients*. The best known names are here;
formulas live in `gradlib.theory`, models in `gradlib.models`, data in `gradlib.data`.
Names load on first use, and torch only with what needs it. Drawing lives in
`gradlib.plotting` and `gradlib.figures`, which import matplotlib and are imported only
on request.
"""

from gradlib.face import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
