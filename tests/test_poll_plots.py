"""The plots of the page on poll scheduling are drawn from the recorded figures."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import pytest

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PAGE = (IMAGES.parent / "poll-scheduling.md").read_text(encoding="utf-8")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("poll_scheduling", IMAGES / "poll_scheduling.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = load()
PLOTS = SCRIPT.plots(json.loads(SCRIPT.FIGURES.read_text(encoding="utf-8")))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
def test_a_plot_is_that_of_the_figures_and_on_the_page(plot: Any, theme: str) -> None:
    name = f"poll_{plot.name}_{theme}.svg"
    assert (IMAGES / name).read_text(encoding="utf-8") == SCRIPT.draw(plot, theme)
    assert f"images/{name}#only-{theme}" in PAGE


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
def test_every_point_is_inside_its_axes(plot: Any) -> None:
    drawing = ET.fromstring(SCRIPT.draw(plot, "light"))  # noqa: S314 - our own
    circles = [each.attrib for each in drawing if each.tag.endswith("circle")]
    assert len(circles) == sum(map(len, plot.lines.values()))
    for circle in circles:
        assert SCRIPT.LEFT <= float(circle["cx"]) <= SCRIPT.WIDTH - SCRIPT.RIGHT
        assert SCRIPT.TOP <= float(circle["cy"]) <= SCRIPT.HEIGHT - SCRIPT.BOTTOM
