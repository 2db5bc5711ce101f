"""What was read from a log: a history, events, and what could not be read."""

from dataclasses import dataclass
from html import escape

from gradlib.history import History
from gradlib.logs.events import Event


@dataclass(frozen=True, repr=False)
class Log:
    """A training log, read.

    Args:
        history: Columns ``loss``, ``gradient_norm``, ``learning_rate``,
            ``loss_scale`` and others, under the names of the log.
        events: Overflows, skipped updates, stops and resumes, in order.
        format: Name of the format, or ``"plain_pairs"``.
        unit: What a step counts: ``"step"``, ``"epoch"``, or ``"line"`` where the
            log counts nothing.
        running: Columns that are means over the epoch so far; their jumps between
            epochs mean nothing, and one NaN stays until the epoch ends.
        unread: Lines that speak of a loss or a norm and gave no number, at most 100.
        lines: Number of lines.
        half_precision: The log names float16, a loss scaler, or a card without
            bfloat16.
        source: Name of the file, or ``"text"``.
        offsets: Steps of the history from which on the log shows a smaller number,
            and by how much; see `shown`.

    Example:
        >>> from gradlib.logs import read_log
        >>> log = read_log("step 1 loss 2.5\\nstep 2 loss nan\\n")
        >>> log.history["loss"]
        [2.5, nan]
        >>> log
        text: 2 lines, format plain_pairs, 2 records by step, 0 events
        step  loss
           1   2.5
           2   nan
    """

    history: History
    events: tuple[Event, ...] = ()
    format: str = "plain_pairs"
    unit: str = "step"
    running: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    lines: int = 0
    half_precision: bool = False
    source: str = "text"
    offsets: tuple[tuple[int, int], ...] = ()

    def shown(self, step: int) -> int:
        """The number that the log itself shows for a step of the history.

        They differ where a log starts to count again: the history goes on.
        """
        offset = 0
        for start, amount in self.offsets:
            if step >= start:
                offset = amount
        return step - offset

    def __repr__(self) -> str:
        return f"{self._told}\n{self.history}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self._told)}</p>{self.history._repr_html_()}"

    @property
    def _told(self) -> str:
        return (
            f"{self.source}: {self.lines} lines, format {self.format}, "
            f"{len(self.history)} records by {self.unit}, {len(self.events)} events"
        )
