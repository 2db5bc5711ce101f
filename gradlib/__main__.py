"""The command: ``gradlib log FILE...`` and ``gradlib checkpoint FILE``."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from gradlib.diagnosis.diagnose_log import judge
from gradlib.diagnosis.report import Report
from gradlib.logs import Log, read_log
from gradlib.logs.lines import as_text, clean_lines, split_lines
from gradlib.logs.reading import Reader

HEALTHY, BROKEN, UNCLEAR, UNREADABLE = range(4)
EXIT_CODES = {"healthy": HEALTHY, "broken": BROKEN, "unclear": UNCLEAR}

REST = 9.0
"""While a growing file is followed, judging takes a tenth of the time at most."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after ``gradlib``; by default those of the command line.

    Returns:
        0 healthy, 1 broken, 2 unclear, 3 a file cannot be read.
    """
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except BrokenPipeError:
        sys.stderr.close()
        return UNREADABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradlib", description="Find out why a training breaks."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    log = commands.add_parser(
        "log",
        help="read the log of any training program, and say what is wrong",
        description="Read the log of any training program: healthy, broken (since "
        "when, and why) or unclear.",
        epilog="Exit code: 0 healthy, 1 broken, 2 unclear, 3 cannot be read. Of "
        "several files the first in the order 1, 3, 2, 0 counts.",
    )
    log.add_argument(
        "files", nargs="+", metavar="FILE", help="a log; - reads the input"
    )
    log.add_argument("--json", action="store_true", help="print JSON, a line a file")
    log.add_argument(
        "--plot",
        metavar="OUT.png",
        help="draw loss, norm, scale and events of one file",
    )
    log.add_argument(
        "--follow",
        action="store_true",
        help="go on reading one growing file until Ctrl+C, and print a line when the "
        "verdict changes",
    )
    log.add_argument(
        "--every",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="with --follow: time between looks at the file (default: 1)",
    )
    log.set_defaults(command=_log)
    checkpoint = commands.add_parser(
        "checkpoint",
        help="find NaN, infinity and odd scales in saved weights",
        description="Which tensors of a checkpoint (safetensors, or torch.save) hold "
        "NaN or infinity, or stand out by scale against the same tensor of other "
        "layers.",
        epilog="Exit code: 0 healthy, 1 broken, 2 some stand out, 3 cannot be read.",
    )
    checkpoint.add_argument("files", nargs="+", metavar="FILE")
    checkpoint.add_argument("--json", action="store_true", help="print JSON")
    checkpoint.set_defaults(command=_checkpoint)
    return parser


def _log(options: argparse.Namespace) -> int:
    if (options.plot or options.follow) and len(options.files) > 1:
        option = "--plot" if options.plot else "--follow"
        print(f"gradlib log: {option}: expected one file", file=sys.stderr)
        return UNREADABLE
    if options.follow:
        return _follow(options.files[0], options.every)
    codes = [_log_file(name, options) for name in options.files]
    return next(c for c in (BROKEN, UNREADABLE, UNCLEAR, HEALTHY) if c in codes)


def _log_file(name: str, options: argparse.Namespace) -> int:
    try:
        log = _from_input() if name == "-" else read_log(Path(name))
        report = judge(log)
        if options.plot:
            _plot(log, report, options.plot)
    except (OSError, ValueError, ImportError) as error:
        return _refuse(name, error, options.json)
    if options.json:
        print(json.dumps({"file": name, **report.to_dict()}))
    else:
        if len(options.files) > 1:
            print(f"== {name}")
        print(_page(report))
    return EXIT_CODES[report.verdict]


def _refuse(name: str, error: Exception, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"file": name, "verdict": None, "error": str(error)}))
    else:
        print(f"gradlib: {error}", file=sys.stderr)
    return UNREADABLE


def _page(report: Report) -> str:
    return f"{report.verdict.upper()}\n{report}"


def _from_input() -> Log:
    reader = Reader("standard input")
    for line in clean_lines(split_lines(as_text(sys.stdin.buffer, "standard input"))):
        reader.read(line)
    return reader.close()


def _plot(log: Log, report: Report, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from gradlib.plotting.log import log_figure

    log_figure(log, report).savefig(path, dpi=120)


def _follow(name: str, every: float) -> int:
    reader, verdict, code = Reader(name), "", UNREADABLE
    try:
        source: TextIO
        with _opened(name) as source:
            for lines, pause in _arrivals(source, every):
                for line in lines:
                    reader.read(line)
                start = time.monotonic()
                try:
                    report = judge(reader.log())
                except ValueError:
                    pass
                else:
                    code = EXIT_CODES[report.verdict]
                    if report.verdict != verdict:
                        verdict = report.verdict
                        print(_alarm(report), flush=True)
                time.sleep(max(pause, REST * (time.monotonic() - start)))
    except KeyboardInterrupt:
        pass
    except (OSError, ValueError) as error:
        return _refuse(name, error, False)
    return code


def _opened(name: str) -> TextIO:
    if name == "-":
        return as_text(sys.stdin.buffer, "standard input")
    return open(name, encoding="utf-8", errors="replace", newline=None)


def _arrivals(source: TextIO, every: float) -> Iterator[tuple[list[str], float]]:
    """Whole lines as they come, with the time to wait after them; ends with a pipe."""
    rest = ""
    while True:
        text = source.read(1 << 20) if source.seekable() else source.readline()
        if not text and not source.seekable():
            return
        *lines, rest = (rest + text).split("\n")
        if lines:
            yield list(clean_lines(lines)), every if source.seekable() else 0.0
        elif not text:
            time.sleep(every)


def _alarm(report: Report) -> str:
    when = time.strftime("%H:%M:%S")
    if report.verdict != "broken":
        return f"{when} {report.verdict}: {report.watched}"
    return (
        f"{when} BROKEN since {report.first_bad_step}: {report.cause}: "
        f"{report.findings[0].symptom}"
    )


def _checkpoint(options: argparse.Namespace) -> int:
    from gradlib.checkpoint import examine_checkpoint

    codes = []
    for name in options.files:
        try:
            found = examine_checkpoint(name)
        except (OSError, ValueError, ImportError) as error:
            codes.append(_refuse(name, error, options.json))
            continue
        if options.json:
            print(json.dumps({"file": name, **found.to_dict()}))
        else:
            print(f"{name}: {found}")
        codes.append(BROKEN if found.broken else UNCLEAR if found.outliers else HEALTHY)
    return next(c for c in (BROKEN, UNREADABLE, UNCLEAR, HEALTHY) if c in codes)


if __name__ == "__main__":
    sys.exit(main())
