"""Many small models at once: every scheme, learning rate and seed of a grid."""

from gradlib.sweep.ensemble import Ensemble
from gradlib.sweep.grid import build, sweep
from gradlib.sweep.result import Run, Setting, SweepResult

__all__ = ["Ensemble", "Run", "Setting", "SweepResult", "build", "sweep"]
