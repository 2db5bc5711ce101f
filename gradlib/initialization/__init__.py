"""Initial weights, and what they do to signals and gradients.

By the name of a scheme, from a batch, and for residual nets; predicted, measured and
audited layer by layer.
"""

from gradlib.initialization.audit import Audit, AuditRow, audit
from gradlib.initialization.growth import Growth, measured_growth, predicted_growth
from gradlib.initialization.schemes import SCHEMES, Scheme, fixup_, initialize_, lsuv_

__all__ = [
    "SCHEMES",
    "Audit",
    "AuditRow",
    "Growth",
    "Scheme",
    "audit",
    "fixup_",
    "initialize_",
    "lsuv_",
    "measured_growth",
    "predicted_growth",
]
