"""Read the log of any training program; nothing here imports torch.

`read_log` reads a file or pasted text into a `Log`. The formats of one line are rows of
`GRAMMARS`; tables, dictionaries, CSV and TensorBoard's event files are read too.
"""

from gradlib.logs.events import Event
from gradlib.logs.grammars import GRAMMARS, Grammar
from gradlib.logs.log import Log
from gradlib.logs.reading import read_log

__all__ = ["GRAMMARS", "Event", "Grammar", "Log", "read_log"]
