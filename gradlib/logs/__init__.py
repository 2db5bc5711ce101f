"""Read the log of any training program; nothing here imports torch."""

from gradlib.logs.events import Event
from gradlib.logs.grammars import GRAMMARS, Grammar
from gradlib.logs.log import Log
from gradlib.logs.reading import Reader, read_log

__all__ = ["GRAMMARS", "Event", "Grammar", "Log", "Reader", "read_log"]
