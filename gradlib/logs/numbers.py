"""Numbers as training programs print them."""

import re

NUMBER = (
    r"[-+]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\d:]*:\d)"
    r"|(?i:nan(?:xxx)?|inf(?:inity)?)(?![\w]))"
)
"""A number, also ``-nan``, ``Infinity`` and PaddleOCR's ``nanxxx``; no time 1:02:03."""

COUNT = r"\d{1,15}"
"""A whole number: a step, an epoch, a batch."""


def to_number(text: str) -> float:
    """Read a number that `NUMBER` found.

    Example:
        >>> to_number("1.5e-3"), to_number("1,500"), to_number("nanxxx")
        (0.0015, 1500.0, nan)
    """
    digits = text.replace(",", "")
    return float(digits[:-3] if digits.lower().endswith("xxx") else digits)


def find_pairs(text: str, blank: bool = False) -> list[tuple[str, str, str]]:
    """Names with their numbers, and the average in brackets behind where there is one.

    Args:
        text: Part of a line.
        blank: Also where only blanks stand between a name and its number.

    Example:
        >>> find_pairs("lr: 0.1, Train Loss = 2.5 (2.75) eta: 1:20:00")
        [('lr', '0.1', ''), ('Train Loss', '2.5', '2.75')]
        >>> find_pairs("Loss is 1.25. Current rate is 0.1.")
        [('Loss', '1.25', ''), ('Current rate', '0.1', '')]
        >>> find_pairs("loss: [2.5], norm = tensor(1.5)")
        [('loss', '2.5', ''), ('norm', '1.5', '')]
        >>> find_pairs("lr 0.1 loss nan", blank=True)
        [('lr', '0.1', ''), ('loss', 'nan', '')]
    """
    return (_BLANK if blank else _SIGNED).findall(text)


_WORD = r"[A-Za-z_][\w/.@\-]{0,79}"
_NO_NUMBER = r"(?!(?i:nan|inf(?:inity)?)(?!\w))"
_NAME = rf"(?<![\w/.@\-(])({_WORD}(?: {_NO_NUMBER}{_WORD}){{0,3}})"
_OPENED = rf"(?:(?<==)\[|\[(?={NUMBER}\])|tensor\(|np\.float\d\d\()?"
_GROUPED = r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w,])"
_PLAIN = rf"{NUMBER}(?![\d.]*[KM]\b)"
_VALUE = rf"{_OPENED}[\"'(]{{0,2}}({_GROUPED}|{_PLAIN})(?:\s{{0,3}}\(({NUMBER})\))?"
_SIGNED = re.compile(
    rf"{_NAME}[\"']?(?:[ \t]{{0,4}}[:=]| is(?= ))[ \t]{{0,16}}{_VALUE}"
)
_BLANK = re.compile(rf"{_NAME}[\"']?[ \t]{{0,4}}[:=]?[ \t]{{0,16}}(?<=[ :=\t]){_VALUE}")
