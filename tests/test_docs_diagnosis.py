"""The chapter about diagnoses has a section for each cause, with those who act according to its rule."""

import re
from pathlib import Path

from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.models.failure_rules import rule_of
from tests.support.cases import all_cases

CHAPTER = (Path(__file__).parents[1] / "docs" / "diagnosis.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", CHAPTER, flags=re.MULTILINE | re.DOTALL))


def test_the_chapter_has_a_section_for_each_cause_and_no_other() -> None:
    assert sorted(SECTIONS) == sorted(FailureCause)


@all_cases("cause", FailureCause)
def test_a_section_names_who_acts_and_what_to_do(cause: FailureCause) -> None:
    section = SECTIONS[cause]
    (who,) = re.findall(r"^- Who acts: (.+)$", section, flags=re.MULTILINE)
    assert who.split(", ") == [str(resolver) for resolver in dict.fromkeys(each for each, _ in rule_of(cause).actions)]
    assert re.search(r"^- What to do: \w", section, flags=re.MULTILINE)
    assert section.split("- Who acts")[0].strip()
