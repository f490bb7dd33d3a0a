"""Make the plots of the page on poll scheduling from the fan-out benchmark, for the light and the dark theme.

python docs/images/poll_scheduling.py             draw the plots from the recorded figures
python docs/images/poll_scheduling.py --measure   measure again first (some minutes)
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
FIGURES = HERE / "poll_scheduling.json"
SIZES = (50, 200, 1_000, 5_000)
STRATEGIES = {
    "no bound, each 5 s": "each 5 s, no bound",
    "semaphore of 100, each 5 s": "each 5 s, 100 at once",
    "run_many, throughput": "run_many, throughput",
    "run_many, latency": "run_many, latency",
    "oracle, polls first": "oracle",
}
THEMES = {"light": ("#333333", "#d0d0d0"), "dark": ("#e0e0e0", "#4a4d57")}
# Readable on both backgrounds, and apart for color-blind readers: https://jfly.uni-koeln.de/color/
COLORS = ("#d55e00", "#cc79a7", "#009e73", "#0084d1", "#8c8c8c")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 330, 62, 190, 34, 46


class Plot(NamedTuple):
    """A plot with logarithmic axes: its texts, its ticks, and one line of points per name."""

    name: str
    title: str
    x_title: str
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    lines: dict[str, list[tuple[float, float]]]
    labels: Sequence[str] = ()
    """The labels of the points of the only line."""


def scale(ticks: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    """Return a function from a value to its place on a logarithmic axis."""
    low, high = math.log(ticks[0]), math.log(ticks[-1])
    return lambda value: round(start + (math.log(value) - low) / (high - low) * (end - start), 1)


def draw(plot: Plot, theme: str) -> str:
    """Return the SVG of a plot."""
    ink, grid = THEMES[theme]
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    x, y = scale(plot.x_ticks, LEFT, right), scale(plot.y_ticks, bottom, TOP)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            f'font-size="13" fill="{ink}" role="img">'
        ),
        f"<title>{escape(plot.title)}</title>",
        f'<text x="{LEFT}" y="18" font-weight="bold">{escape(plot.title)}</text>',
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(plot.x_title)}</text>',
    ]
    for tick in plot.x_ticks:
        parts.append(f'<path d="M{x(tick)} {TOP}V{bottom}" stroke="{grid}"/>')
        parts.append(f'<text x="{x(tick)}" y="{bottom + 18}" text-anchor="middle">{tick:,g}</text>')
    for tick in plot.y_ticks:
        parts.append(f'<path d="M{LEFT} {y(tick)}H{right}" stroke="{grid}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4}" text-anchor="end">{tick:,g}</text>')
    for number, (name, points) in enumerate(plot.lines.items()):
        color, height = COLORS[number % len(COLORS)], TOP + 12 + 22 * number
        path = "L".join(f"{x(one)} {y(other)}" for one, other in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{x(one)}" cy="{y(other)}" r="3.5" fill="{color}"/>' for one, other in points]
        parts.append(f'<path d="M{right + 14} {height}h18" stroke="{color}" stroke-width="2.5"/>')
        parts.append(f'<text x="{right + 38}" y="{height + 4}">{escape(name)}</text>')
    for label, (one, other) in zip(plot.labels, *plot.lines.values(), strict=False):
        parts.append(f'<text x="{x(one) + 7}" y="{y(other) - 5}">{escape(label)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def measure() -> dict[str, list[list[object]]]:
    """Run the benchmark: every strategy at every size, and the objectives' trade-off at one size."""
    sys.path.insert(0, str(HERE.parents[1]))
    from tests.benchmarks import fanout  # noqa: PLC0415 - needs the test tools, which drawing does not

    sizes: list[list[object]] = []
    for companies in SIZES:
        for name in STRATEGIES:
            figures = fanout.measure(name, "log-normal", companies, seed=1)
            sizes.append([name, companies, round(figures.seconds, 1), round(figures.requests, 3), figures.mean_delay])
            print(*sizes[-1], flush=True)  # noqa: T201 - progress for people
    shares: list[list[object]] = []
    for share in fanout.SHARES:
        with fanout.constant("_COST_SHARE", share):
            figures = fanout.measure("run_many, throughput", "log-normal", 1_000, seed=1)
        shares.append([share, round(figures.seconds, 1), figures.mean_delay])
        print(*shares[-1], flush=True)  # noqa: T201 - likewise
    return {"strategy, companies, seconds, requests, delay": sizes, "share, seconds, delay": shares}


def plots(recorded: dict[str, list[list[float]]]) -> list[Plot]:
    """Return the plots of the recorded figures."""
    sizes, shares = recorded.values()

    def by_size(column: int) -> dict[str, list[tuple[float, float]]]:
        return {
            label: [(row[1], row[column]) for row in sizes if str(row[0]) == name] for name, label in STRATEGIES.items()
        }

    return [
        Plot("delay", "Mean seconds until an end is noticed", "companies", SIZES, (0.1, 1, 10, 100, 1000), by_size(4)),
        Plot("time", "Seconds until all have ended", "companies", SIZES, (1000, 2000, 4000, 8000), by_size(2)),
        Plot("requests", "Requests per company", "companies", SIZES, (2, 4, 8, 16, 32, 64), by_size(3)),
        Plot(
            "share",
            "Mean seconds until an end is noticed, by share",
            "seconds until all of 1,000 companies have ended",
            (1450, 1500, 1550, 1600, 1650, 1700),
            (4, 8, 16, 32),
            {"run_many": [(seconds, delay) for _, seconds, delay in shares]},
            [f"{share:g}" for share, _, _ in shares],
        ),
    ]


def main() -> None:
    """Draw the plots, after measuring if that is requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    if parser.parse_args().measure:
        FIGURES.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    for plot in plots(json.loads(FIGURES.read_text(encoding="utf-8"))):
        for theme in THEMES:
            (HERE / f"poll_{plot.name}_{theme}.svg").write_text(draw(plot, theme), encoding="utf-8")


if __name__ == "__main__":
    main()
