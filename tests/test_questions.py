"""One page has a sentence and a link to an existing heading for each question that users have."""

import re
from pathlib import Path

from tests.support.cases import all_cases

DOCS = Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "questions.md").read_text(encoding="utf-8")
QUESTIONS = dict(re.findall(r"^### (.+)\n\n((?:.+\n)+)", TEXT, re.MULTILINE))
LINK = re.compile(r"\]\(([\w/-]+\.md)(?:#([\w-]+))?\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as MkDocs makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-") for heading in headings}


def test_every_heading_of_the_third_level_is_a_question() -> None:
    assert len(QUESTIONS) >= 80
    assert list(QUESTIONS) == re.findall(r"^### (.+\?)$", TEXT, re.MULTILINE)
    assert TEXT.count("\n### ") == len(QUESTIONS)


# What newcomers searched for. Without a question that has the word, the search shows other pages first.
SEARCHED = (
    "Jupyter notebook IPython uvloop macOS Windows Flask Django trio fork memory cancel abort killed SIGTERM hang "
    "header tracing correlation backfill unknown 422 429 503 retry merchant signature duplicate mock CSV Docker Celery"
)


@all_cases("word", SEARCHED.split())
def test_what_newcomers_search_for_is_in_a_question(word: str) -> None:
    assert [question for question in QUESTIONS if re.search(rf"\b{word}", question)]


@all_cases("question", QUESTIONS)
def test_each_question_links_to_a_page_that_exists(question: str) -> None:
    found = LINK.search(QUESTIONS[question])
    assert found, "no link"
    page, anchor = found.groups()
    assert (DOCS / page).is_file()
    assert anchor is None or anchor in anchors(DOCS / page)
