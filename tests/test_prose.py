"""The sentences of README and documentation are short."""

import re
from pathlib import Path

from tests.support.cases import all_cases

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAX_WORDS = 30

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# What ends a block of prose: an empty line, a heading, an image, an item of a list, a row of a table, a directive.
BLOCK = re.compile(r"\n\s*\n|\n(?=#|!\[|\s*[-*] |\s*\d+\. |\||:::)")
SENTENCE = re.compile(r"(?<=[.!?:;])\s+")


def sentences(text: str) -> list[str]:
    """Return the sentences outside of code; a row of a table is split into its cells."""
    prose = [part for block in BLOCK.split(FENCE.sub("\n\n", text)) for part in block.split("|")]
    return [sentence for part in prose for sentence in SENTENCE.split(" ".join(part.split())) if sentence]


def too_long(text: str) -> list[str]:
    return [sentence for sentence in sentences(text) if len(sentence.split()) > MAX_WORDS]


@all_cases("page", PAGES)
def test_no_sentence_is_longer_than_thirty_words(page: Path) -> None:
    assert too_long(page.read_text(encoding="utf-8")) == []


def test_a_long_sentence_is_found() -> None:
    long = " ".join(["word"] * 31)
    assert too_long(f"Short.\n\n- {long}.\n\n```\n{long}\n```\n") == [f"- {long}."]
