"""The changelog has the form of Keep a Changelog: https://keepachangelog.com/en/1.1.0/."""

import re
from pathlib import Path

from codat_commerce_async import __version__

TEXT = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
RELEASES = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
GROUPS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_releases_have_a_version_and_a_date_newest_first() -> None:
    assert RELEASES[0] == "[Unreleased]"
    dated = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d\d-\d\d)", release) for release in RELEASES[1:]]
    assert None not in dated
    versions = [tuple(map(int, found.groups()[:3])) for found in dated if found]
    assert versions == sorted(versions, reverse=True)


def test_the_current_version_is_named() -> None:
    assert re.search(rf"\b{re.escape(__version__)}\b", TEXT)


def test_changes_are_grouped_by_kind_and_no_group_is_empty() -> None:
    groups = re.findall(r"^### (.+)\n\n(.+)", TEXT, re.MULTILINE)
    assert groups
    assert {name for name, _ in groups} <= GROUPS
    assert len(re.findall(r"^### ", TEXT, re.MULTILINE)) == len(groups)
    assert all(re.match(r"- |#### ", first) for _, first in groups)


def test_lines_fit_on_a_screen() -> None:
    assert [line for line in TEXT.splitlines() if len(line) > 120] == []
