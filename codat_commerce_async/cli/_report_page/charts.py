"""Draw the charts of the HTML report as SVG elements, with pygal: the only module that uses it."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import SubElement, fromstring, tostring

from attrs import frozen

from codat_commerce_async.cli._exit import EXIT_USAGE, CommandError

try:
    import pygal  # type: ignore[import-untyped]
    from pygal.style import Style  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "pygal":
        raise
    raise CommandError("report --html needs an extra: pip install 'codat-commerce-async[report]'", EXIT_USAGE) from None

# pygal adds a finder for plugins, which lacks `find_spec`: on Python 3.11, every later import would warn.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]

__all__ = ["Bar", "Line", "draw_bars", "draw_lines"]

# The size in which the charts are laid out; the page scales them.
_SIZE = {"width": 520, "height": 290, "margin": 8}
_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
# Of pygal: the page has its own styles, and its charts need no script.
_DROPPED = ("defs", "desc", "style", "script")


@frozen
class Line:
    """A line of a chart: its name, its points, and whether the area below it is filled."""

    name: str
    points: Sequence[tuple[float, float]]
    fill: bool = False


@frozen
class Bar:
    """A bar of a histogram, from `start` to `end`, and its text for the tooltip."""

    height: float
    start: float
    end: float
    text: str


def draw_lines(lines: Sequence[Line], ticks: Mapping[float, str], label: str) -> str:
    """Return a chart of lines; `ticks` are the labels of the horizontal axis, `label` describes the chart."""
    chart = pygal.XY(show_dots=False, **_options(ticks))
    for line in lines:
        chart.add(line.name, list(line.points), fill=line.fill)
    return _svg(chart, label)


def draw_bars(series: Mapping[str, Sequence[Bar]], ticks: Mapping[float, str], label: str) -> str:
    """Return a histogram of one or more series."""
    chart = pygal.Histogram(**_options(ticks))
    for name, bars in series.items():
        chart.add(name, [{"value": (bar.height, bar.start, bar.end), "label": bar.text} for bar in bars])
    return _svg(chart, label)


def _options(ticks: Mapping[float, str]) -> dict[str, Any]:
    return {
        **_SIZE,
        "css": (),
        "js": (),
        "disable_xml_declaration": True,
        "style": Style(label_font_size=14, major_label_font_size=14),
        # The page has a legend that wraps on a phone.
        "show_legend": False,
        "truncate_label": -1,
        "min_scale": 3,
        "max_scale": 6,
        "include_x_axis": True,
        "value_formatter": "{:,.0f}".format,
        "x_labels": [{"value": value, "label": text} for value, text in ticks.items()],
    }


def _svg(chart: pygal.Graph, label: str) -> str:
    """Return the drawing without what the page does not need, with a description and with tooltips of browsers."""
    # The parser drops comments.
    root = fromstring(chart.render(is_unicode=True).replace(_NAMESPACE, ""))  # noqa: S314 - what pygal wrote
    root.attrib.pop("id", None)
    root.attrib.update({"role": "img", "aria-label": label})
    for parent in list(root.iter()):
        tooltip = next((each.text for each in parent if each.tag == "desc" and each.get("class") == "label"), None)
        for child in [each for each in parent if each.tag in _DROPPED]:
            parent.remove(child)
        if tooltip is not None:
            SubElement(parent, "title").text = tooltip
    return tostring(root, encoding="unicode")
