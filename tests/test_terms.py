"""Names and texts use the field's standard terms; `forbidden_terms.txt` lists what replaces what."""

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.cases import all_cases

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("forbidden_terms.txt")
# The parts of a name: `LookOptions` has two, `look_at` too, and `lookup` one.
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


class Terms(NamedTuple):
    """The parsed list: what to write instead of each word, and the words that a path may contain."""

    instead: dict[str, str]
    exceptions: list[tuple[str, str]]


def read_terms(text: str) -> Terms:
    instead: dict[str, str] = {}
    exceptions: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("!"):
            pattern, _, rest = line[1:].partition(":")
            word, dash, reason = rest.partition(" - ")
            assert dash, f"an exception needs its reason: {line}"
            assert reason.strip(), f"an exception needs its reason: {line}"
            exceptions.append((pattern.strip(), word.strip()))
        elif line.strip() and not line.startswith("#"):
            words, arrow, replacement = line.partition(" -> ")
            assert arrow, f"no replacement: {line}"
            instead.update(dict.fromkeys(map(str.strip, words.split(",")), replacement))
    return Terms(instead, exceptions)


def words_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield each part of each word, and each pair of parts, with its line."""
    last = ""
    for number, line in enumerate(text.splitlines(), 1):
        for part in map(str.lower, PART.findall(line)):
            yield number, part
            yield number, f"{last} {part}"
            last = part


def violations(path: str, text: str, terms: Terms) -> list[str]:
    allowed = {word for pattern, word in terms.exceptions if fnmatch(path, pattern)}
    return [
        f"{path}:{line}: {word} -> {terms.instead[word]}"
        for line, word in words_of(text)
        if word in terms.instead and word not in allowed
    ]


def texts(*patterns: str) -> dict[str, str]:
    found = {path for pattern in patterns for path in ROOT.glob(pattern)} - {Path(__file__)}
    paths = {path for path in found if path.is_file() and path.suffix not in NO_TEXT}
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(paths)}


PLACES = {
    "package": ("codat_commerce_async/**/*.*",),
    "tests": ("tests/**/*.py",),
    "documents": ("examples/**/*.*", "docs/**/*.*", "*.md", "*.yml", "*.toml", ".ci/*"),
}
NO_TEXT = {".png", ".pyc"}


@pytest.mark.parametrize("place", PLACES)
def test_names_and_texts_use_the_standard_terms(place: str) -> None:
    terms = read_terms(LIST.read_text(encoding="utf-8"))
    found = [one for path, text in texts(*PLACES[place]).items() for one in violations(path, text, terms)]
    assert not found, "\n".join(found)


def test_every_exception_is_needed() -> None:
    terms = read_terms(LIST.read_text(encoding="utf-8"))
    strict = terms._replace(exceptions=[])
    for pattern, word in terms.exceptions:
        assert any(
            f": {word} -> " in one for path, text in texts(pattern).items() for one in violations(path, text, strict)
        ), f"{pattern} has no {word}"


TERMS = Terms({"look": "poll", "gate": "rate limiter", "go on": "continue"}, [("b.py", "gate")])


@all_cases(
    ("path", "text", "found"),
    [
        ("a.py", "def look_at(): ...\n", 1),
        ("a.py", "class LookOptions: ...\n", 1),
        ("a.py", "x = 'Look here'\n", 1),
        ("a.py", "x = f'a {1} look'\n", 1),
        ("a.py", '"""A\n\nlook\n"""\n', 1),
        ("a.py", "x = 1  # the gate\n", 1),
        ("b.py", "x = 1  # the gate\n", 0),
        ("a.py", "gateway = lookup = outlook = 1\n", 0),
        ("a.md", "Take a look at `LookOptions`.\n", 2),
        ("a.py", "def go_on(): ...\n", 1),
        ("a.md", "The syncs go\non.\n", 1),
        ("a.md", "On a go.\n", 0),
    ],
)
def test_a_forbidden_word_is_found_wherever_it_stands(path: str, text: str, found: int) -> None:
    assert len(violations(path, text, TERMS)) == found
