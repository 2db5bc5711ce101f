#!/usr/bin/env python3
"""Change the library a little, many times, and see whether its tests notice.

    python scripts/mutants.py [--each 100] [--jobs 2] [--record] [subject ...]

A mutant is one module with one change: a comparison, an operator of arithmetic, a
boolean, a whole number, a loop or a decorator (by cosmic-ray's operators), or, in the
diagnosis, a threshold at half and at twice its value. A mutant that no test of its
subject kills survives, and is listed with its line. Of each subject ``--each`` mutants
are drawn, always the same ones; 0 takes all. Nothing is written into the tree: each
mutant lives in a process of its own, forked where torch is loaded already, which takes
a few seconds instead of the quarter of a minute that cosmic-ray's own runner takes.
"""

import argparse
import ast
import importlib
import os
import random
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import ndiff
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType

from book import ROOT
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from markdown_text import table
from recording import RECORDS, record

ARITHMETIC = ("Add", "Sub", "Mul", "Div")
COMPARISON = ("Eq", "NotEq", "Lt", "LtE", "Gt", "GtE")
OPERATORS = [
    *(
        f"ReplaceBinaryOperator_{a}_{b}"
        for a in ARITHMETIC
        for b in ARITHMETIC
        if a != b
    ),
    *(
        f"ReplaceComparisonOperator_{a}_{b}"
        for a in COMPARISON
        for b in COMPARISON
        if a != b
    ),
    *("ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not"),
    *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "AddNot"),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd", "NumberReplacer"),
    *("ZeroIterationForLoop", "RemoveDecorator"),
]
SUBJECTS = {
    "clip": (["gradlib/clip.py"], ["tests/library/test_clip.py"]),
    "measure": (
        ["gradlib/measure"],
        ["tests/library/measure", "tests/library/test_clip.py"],
    ),
    "history": (
        ["gradlib/history.py"],
        ["tests/library/test_history.py", "tests/library/logs/test_log_history.py"],
    ),
    "monitor": (["gradlib/monitor.py"], ["tests/library/test_monitor.py"]),
    "diagnosis": (
        ["gradlib/diagnosis"],
        [
            "tests/library/diagnosis/test_thresholds.py",
            "tests/library/diagnosis/test_log_thresholds.py",
        ],
    ),
}
COLUMNS = ("subject", "mutants", "drawn", "killed", "share")
SECONDS = 300  # of the processor; a mutant that takes longer runs for ever: killed


@dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    path: Path
    source: str
    change: str

    @property
    def module(self) -> str:
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts)


class Changed(SourceFileLoader):
    """Loads a module from a changed text."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(mutant.path))
        self.mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.mutant.source, self.path)


class Finder(MetaPathFinder):
    """Finds the changed module before the one on disk."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != self.mutant.module:
            return None
        loader = Changed(self.mutant)
        return spec_from_file_location(name, self.mutant.path, loader=loader)


def difference(before: str, after: str) -> str:
    """Line number, old line and new line of a change."""
    number, told = 0, []
    for line in ndiff(before.splitlines(), after.splitlines()):
        number += line[0] in " -"
        if line[0] in "-+":
            told.append(f"{number}: {line}" if line[0] == "-" else line)
    return "; ".join(" ".join(line.split()) for line in told)


def small_changes(path: Path) -> Iterator[Mutant]:
    """All mutants of a module by cosmic-ray's operators."""
    before = path.read_text("utf8")
    tree = get_ast(before)
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        count = sum(
            len(list(operator.mutation_positions(node))) for node in ast_nodes(tree)
        )
        for occurrence in range(count):
            after = mutate_code(before, operator, occurrence)
            if after is not None and differs(before, after):
                yield Mutant(path, after, difference(before, after))


def differs(before: str, after: str) -> bool:
    """Whether a text is Python that does something else: 1e38 + 1 is 1e38."""
    try:
        return ast.dump(ast.parse(after)) != ast.dump(ast.parse(before))
    except SyntaxError:
        return False


def moved_thresholds(path: Path) -> Iterator[Mutant]:
    """A module with one of its named thresholds at half and at twice its value."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    other = importlib.import_module("thresholds").OTHER_NUMBERS
    before = path.read_text("utf8")
    below = path.relative_to(ROOT / "gradlib" / "diagnosis").with_suffix("").parts
    for node in ast.parse(before).body:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)):
            continue
        name, value = ast.unparse(node.targets[0]), node.value.value
        known = ".".join([*below, name]) in other
        if known or type(value) not in (int, float) or name.startswith("_"):
            continue
        for factor in (0.5, 2):
            new = type(value)(factor * value)
            lines = before.splitlines(keepends=True)
            lines[node.lineno - 1] = f"{name} = {new!r}\n"
            after = "".join(lines)
            yield Mutant(path, after, difference(before, after))


def mutants_of(subject: str) -> list[Mutant]:
    make = moved_thresholds if subject == "diagnosis" else small_changes
    places = [ROOT / place for place in SUBJECTS[subject][0]]
    files = [
        path
        for place in places
        for path in (sorted(place.rglob("*.py")) if place.is_dir() else [place])
        if path.name != "__init__.py"
    ]
    return [mutant for path in files for mutant in make(path)]


def start(mutant: Mutant, tests: list[str]) -> int:
    """Fork a process that runs the tests on a mutant; its exit status is pytest's."""
    child = os.fork()
    if child:
        return child
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    for name in [name for name in sys.modules if name.split(".")[0] == "gradlib"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder(mutant))
    import pytest

    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    os._exit(pytest.main([*options, *tests]))


def check_tests_pass(mutant: Mutant, tests: list[str]) -> None:
    """Refuse tests that fail without a change: they would kill everything."""
    same = Mutant(mutant.path, mutant.path.read_text("utf8"), "no change")
    if os.waitpid(start(same, tests), 0)[1]:
        raise SystemExit(f"expected tests that pass without a change: {tests}")


def survivors(mutants: list[Mutant], tests: list[str], jobs: int) -> list[Mutant]:
    """The mutants that no test kills."""
    waiting, running, alive = list(mutants), {}, []
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            running[start(mutant, tests)] = mutant
        child, status = os.wait()
        mutant = running.pop(child)
        if status == 0:
            alive.append(mutant)
            print(f"  {mutant.module} {mutant.change}", flush=True)
    return alive


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--each", type=int, default=100, help="mutants of a subject")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--record", action="store_true", help="keep the result")
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []])
    options = parser.parse_args()
    os.environ["HYPOTHESIS_PROFILE"] = "quick"
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    importlib.import_module("torch")
    rows, lines = [], []
    for subject in options.subjects or SUBJECTS:
        tests = SUBJECTS[subject][1]
        everything = mutants_of(subject)
        drawn = list(everything)
        if options.each and subject != "diagnosis":
            drawn = random.Random(0).sample(drawn, min(options.each, len(drawn)))
        print(f"{subject}: {len(drawn)} of {len(everything)}; survivors:", flush=True)
        check_tests_pass(drawn[0], tests)
        alive = survivors(drawn, tests, options.jobs)
        killed = len(drawn) - len(alive)
        share = f"{100 * killed / len(drawn):.0f} %"
        rows.append([subject, *map(str, (len(everything), len(drawn), killed)), share])
        lines += [[subject, mutant.module, mutant.change] for mutant in alive]
    print(table(COLUMNS, rows))
    if options.record:
        path, command = RECORDS / "mutants.json", "make mutants"
        record(path, "Small changes that tests notice", command, COLUMNS, rows)
        columns = ("subject", "module", "change")
        record(path, "Changes that survived", command, columns, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
