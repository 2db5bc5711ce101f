"""Name the cause of a broken training: symptom, cause, layer, evidence, fix.

`diagnose` examines a training that can be run, `diagnose_history` a record of one.
``rules`` holds what they look for, ``evidence`` what the rules look at. Names load on
first use, so that records are judged without torch.
"""

from gradlib.face import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
