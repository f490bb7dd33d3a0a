"""Links of the README, the changelog and the documentation lead to files and headings that exist."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def links(page: Path) -> list[str]:
    return LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as MkDocs and GitHub make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-") for heading in headings}


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere; links to other hosts are only checked for their form."""
    found = []
    for link in links(page):
        if re.match(r"https?:", link):
            is_right = re.fullmatch(r"https://[\w.-]+(/[^\s]*)?", link) is not None
        else:
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            is_theme = anchor in {"only-light", "only-dark"}
            is_right = target.is_file() and (not anchor or is_theme or anchor in anchors(target))
        if not is_right:
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_there_are_links_and_a_broken_one_is_found(tmp_path: Path) -> None:
    assert sum(len(links(page)) for page in PAGES) > 100
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n[a](#a-page) [b](#none) [c](none.md) [d](http://a.example) `[e](code.md)`\n", "utf-8")
    assert broken(page) == ["#none", "none.md", "http://a.example"]
