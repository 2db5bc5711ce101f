"""Read the log of any training program; nothing here imports torch."""

from gradlib.logs.events import Event
from gradlib.logs.grammars import GRAMMARS, Grammar
from gradlib.logs.log import Log
from gradlib.logs.reading import Reader, read_log
from gradlib.logs.records import columns_of

__all__ = ["GRAMMARS", "Event", "Grammar", "Log", "Reader", "columns_of", "read_log"]
