"""Where in a run a line says that it is: step, batch, epoch, progress bar."""

import re

BAR = re.compile(r"\|\s*(\d+)/(\d+) \[")
BATCH = re.compile(
    r"(?i)\b(?:iter|iteration|step|batch|it)s?\W{0,4}(\d{1,12})\s*(?:/|of)\s*(\d{1,12})"
)
STEP = re.compile(
    r"(?i)\b(?:(?:global.?step|iteration|iter|step)\W{1,3}(\d{1,12})\b"
    r"|(\d{1,12}) (?:iter|iteration|step)s?[,:;])"
)
AT = re.compile(r"(?i)\b(?:iteration|iter|step|update)s?\W{1,3}(\d{1,12})\b")
EPOCH = re.compile(r"(?i)\bepochs?\W{0,4}(\d{1,9})\b")
HEADING = re.compile(
    r"(?i)(?:^|\s)(?:iteration|iter|step|update)\W{1,3}(\d{1,12})(?:\s?/\s?\d+)?\W*$"
)
