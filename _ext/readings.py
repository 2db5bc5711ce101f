"""The annotated list of readings, made from ``references.bib`` at each build.

The page ``readings`` holds a marker. Before Sphinx reads the page, the marker is
replaced by the works of ``references.bib``, twice: in short those that name a symptom,
by what a reader sees; then all, by chapter and level, each with a link back to every
chapter that cites it. A chapter cites a work by linking to it.
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pybtex.database import Entry, Person, parse_file
from pybtex.richtext import Text
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from book import chapter_files, prose_of
from markdown_text import anchor, escape

PAGE = "reference/readings"
BIBLIOGRAPHY = "reference/references.bib"
MARKER = "<!-- readings -->"
LEVELS = {"start": "Start here", "paper": "Papers", "deep": "Deep"}
VENUES = ("journal", "booktitle", "howpublished", "publisher", "school")
REQUIRED = ("title", "year", "url", "keywords", "level", "annote")
PUBLISHED = ("eprint", "doi")
LINK = re.compile(r"\]\(<?(https?://[^\s)>]+)>?\)")


@dataclass(frozen=True)
class Symptom:
    """What a reader sees, in the reader's words, and the section that tests for it."""

    heading: str
    chapter: str
    section: str  # a heading of that chapter


# In the order of the field guide's path, then by what one trains and how.
SYMPTOMS = {
    "nan": Symptom(
        "NaN or inf from the first steps", "field_guide", "NaN or inf at step 0"
    ),
    "diverges": Symptom(
        "The loss diverges and does not come back",
        "field_guide",
        "NaN after some steps",
    ),
    "spike": Symptom(
        "The loss spikes and recovers", "field_guide", "A spike that recovers"
    ),
    "grows": Symptom(
        "A norm or a logit grows slowly",
        "field_guide",
        "A slow rise, or a loss that never settles",
    ),
    "flat": Symptom("The loss stays flat", "field_guide", "A flat line"),
    "precision": Symptom(
        "It fails only in half precision or eight bits",
        "precision",
        "See which numbers fit",
    ),
    "workers": Symptom(
        "It fails only on several GPUs, or when the batch is cut",
        "workers",
        "Whose norm it is",
    ),
    "resume": Symptom(
        "It fails after a resume",
        "schedulers",
        "A trap: the schedule that resumes wrong",
    ),
    "policy": Symptom(
        "A policy or a value explodes, or stops learning",
        "elsewhere",
        "Watch a policy undo its work",
    ),
    "sequence": Symptom(
        "It fails only on long sequences", "recurrent", "Measure the slope"
    ),
    "elsewhere": Symptom(
        "Two players, an equation, a graph or a diffusion will not settle",
        "elsewhere",
        "Two players",
    ),
}


@dataclass(frozen=True)
class Work:
    """One entry of the bibliography, as plain text."""

    key: str
    title: str
    authors: str
    venue: str
    year: str
    url: str
    links: frozenset[str]  # all addresses of the work, in canonical form
    chapter: str
    level: str
    symptoms: tuple[str, ...]
    posted: bool  # a log, a post or a documentation: neither a paper nor a book
    annotation: str


@dataclass(frozen=True)
class Chapter:
    """A page of the book and the addresses that it links to, in canonical form."""

    file: str
    title: str
    cites: frozenset[str]

    @property
    def name(self) -> str:
        return Path(self.file).stem

    @property
    def link(self) -> str:
        return f"[{self.title}](/{self.file})"


def canonical(url: str) -> str:
    """The same text for all ways to write one address.

    Scheme, ``www``, anchor, and arXiv's version and PDF do not matter.
    """
    url = re.sub(r"^https?://(www\.|dx\.)?", "", url.partition("#")[0]).rstrip("/")
    paper = re.match(r"arxiv\.org/(?:abs|pdf)/([\w.-]+?)(?:v\d+)?(?:\.pdf)?$", url)
    return f"arxiv.org/abs/{paper[1]}" if paper else url


def read_works(path: Path) -> list[Work]:
    """All works, in the order of the file.

    Raises:
        ValueError: an entry lacks a field, or names a level or a symptom that is not
            known; names the entry.
    """
    entries = parse_file(path, bib_format="bibtex").entries
    return [read_work(key, entry) for key, entry in entries.items()]


def read_work(key: str, entry: Entry) -> Work:
    fields = entry.fields
    missing = [name for name in REQUIRED if not fields.get(name)]
    if not any(fields.get(name) for name in VENUES):
        missing.append(" or ".join(VENUES))
    if not entry.persons.get("author"):
        missing.append("author")
    if missing:
        raise ValueError(f"{key}: expected {', '.join(missing)}; the entry has none")
    if fields["level"] not in LEVELS:
        known = ", ".join(LEVELS)
        raise ValueError(f"{key}: expected a level of {known}; got {fields['level']!r}")

    symptoms = re.split(r"\s*,\s*", fields["symptom"]) if "symptom" in fields else []
    for name in symptoms:
        if name not in SYMPTOMS or symptoms.count(name) > 1:
            known = ", ".join(SYMPTOMS)
            raise ValueError(
                f"{key}: expected symptoms of {known}, each once; "
                f"got {fields['symptom']!r}"
            )

    links = [fields["url"]]
    if fields.get("eprint"):
        links.append(f"https://arxiv.org/abs/{fields['eprint']}")
    if fields.get("doi"):
        links.append(f"https://doi.org/{fields['doi']}")
    return Work(
        key=key,
        title=plain(fields["title"]),
        authors=author_names(entry.persons["author"]),
        venue=plain(next(fields[name] for name in VENUES if fields.get(name))),
        year=fields["year"],
        url=fields["url"],
        links=frozenset(map(canonical, links)),
        chapter=fields["keywords"],
        level=fields["level"],
        symptoms=tuple(symptoms),
        posted=entry.type == "misc" and not any(map(fields.get, PUBLISHED)),
        annotation=plain(fields["annote"]),
    )


def plain(latex: str) -> str:
    """Text without LaTeX markup."""
    return str(Text.from_latex(latex))


def author_names(people: list[Person]) -> str:
    """Last names: all of up to three authors, else the first and "et al."."""
    names = [plain(" ".join([*p.prelast_names, *p.last_names])) for p in people]
    if len(names) > 3 or "others" in names:
        return f"{names[0]} et al."
    return " and ".join(", ".join(names).rsplit(", ", 1))


def read_chapter(root: Path, file: str) -> Chapter:
    """Title and links of a notebook."""
    prose = prose_of(root / file)
    title = re.search(r"^# (.+)$", prose, re.MULTILINE)
    return Chapter(
        file=file,
        title=title[1].strip() if title else Path(file).stem,
        cites=frozenset(map(canonical, LINK.findall(prose))),
    )


def describe(work: Work, chapters: Iterable[Chapter]) -> str:
    """One item of the list by chapter."""
    back = ", ".join(c.link for c in chapters if c.cites & work.links)
    return (
        f"- **[{escape(work.title)}](<{work.url}>)**, {escape(work.authors)}, "
        f"*{escape(work.venue)}*, {work.year}. {escape(work.annotation)}"
        + (f" Cited in {back}." if back else "")
    )


def summarize(work: Work) -> str:
    """One item of the list by symptom: what to open, how old it is, what it teaches."""
    return (
        f"- **[{escape(work.title)}](<{work.url}>)** ({escape(work.authors)}, "
        f"{work.year}): {escape(work.annotation)}"
    )


def by_symptom(works: list[Work], chapters: list[Chapter]) -> list[str]:
    """The works that name a symptom: logs and posts first, then the newest first."""
    files = {chapter.name: chapter.file for chapter in chapters}
    ranked = sorted(works, key=lambda work: (not work.posted, -int(work.year)))
    index, lines = [], []
    for name, symptom in SYMPTOMS.items():
        items = [summarize(work) for work in ranked if name in work.symptoms]
        if not items:
            continue
        index.append(f"- [{symptom.heading}](#{anchor(symptom.heading)})")
        lines += [f"### {symptom.heading}", ""]
        if symptom.chapter in files:
            place = f"/{files[symptom.chapter]}#{anchor(symptom.section)}"
            lines += [f"Test first: [{symptom.section}]({place}).", ""]
        lines += [*items, ""]
    return ["## By symptom", "", *index, "", *lines] if index else []


def by_chapter(works: list[Work], chapters: list[Chapter]) -> list[str]:
    """All works: chapters in the book's order, then the others."""
    written = {chapter.name: chapter for chapter in chapters}
    names = [*written, *(work.chapter for work in works if work.chapter not in written)]
    lines = ["## By chapter", ""]
    for name in dict.fromkeys(names):
        listed = [work for work in works if work.chapter == name]
        if not listed:
            continue
        if name in written:
            lines += [f"### {written[name].title}", ""]
            lines += [f"[Read the chapter](/{written[name].file})", ""]
        else:
            lines += [f"### {name.replace('_', ' ').capitalize()}", ""]
        for level, heading in LEVELS.items():
            items = [describe(w, chapters) for w in listed if w.level == level]
            if items:
                lines += [f"#### {heading}", "", *items, ""]
    return lines


def render(works: list[Work], chapters: list[Chapter]) -> str:
    """Both lists as Markdown."""
    return "\n".join([*by_symptom(works, chapters), *by_chapter(works, chapters)])


def insert(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace the marker by the list."""
    if page != PAGE:
        return
    if MARKER not in source[0]:
        raise ExtensionError(f"{PAGE}: expected the marker {MARKER}, found none")
    root = Path(app.srcdir)
    chapters = [read_chapter(root, file) for file in chapter_files(root)]
    try:
        works = read_works(root / BIBLIOGRAPHY)
    except ValueError as error:
        raise ExtensionError(f"{BIBLIOGRAPHY}: {error}") from error
    source[0] = source[0].replace(MARKER, render(works, chapters))
    app.env.note_dependency(str(root / BIBLIOGRAPHY))


def refresh(
    app: Sphinx,
    env: BuildEnvironment,
    added: set[str],
    changed: set[str],
    removed: set[str],
) -> list[str]:
    """Read the page again when any other page changed: it may cite other works."""
    return [PAGE] if (added | changed | removed) and PAGE in env.found_docs else []


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", insert)
    app.connect("env-get-outdated", refresh)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
