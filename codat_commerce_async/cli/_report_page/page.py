"""`report --html`: one page with the tiles, charts, failures and syncs of a run, which loads nothing else."""

import base64
import hashlib
import json
import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from statistics import median

from codat_commerce_async._core.text import format_count, format_duration, one_line
from codat_commerce_async._version import __version__
from codat_commerce_async.cli._records import CauseGroup, RunData, diagnosis_of, group_by_cause
from codat_commerce_async.cli._report_page.charts import Bar, Line, draw_bars, draw_lines
from codat_commerce_async.cli._state import Result
from codat_commerce_async.syncing.journal import JournalEntry, MinuteCounts

__all__ = ["MAX_ROWS", "render"]

# The table has at most this many syncs: first those that failed or have not ended.
MAX_ROWS = 5_000
_MAX_POINTS = 120
_BINS = 24
_TICKS = 5
_HIGH_PERCENTILE = 0.95
# A few very long syncs must not squeeze the others: the histogram ends at this multiple of the 95th percentile.
_LONGEST_SHOWN = 2.0
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
_MINUTE = 60
_MAX_GROUPS = 30
# https://docs.codat.io/using-the-api/rate-limits
_QUOTA_PER_MINUTE = 1000
_NOT_DIAGNOSED = "not diagnosed"
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def render(data: RunData, *, now: datetime, refresh: float | None = None) -> str:
    """Return the page as HTML; with `refresh`, a browser reloads it after that many seconds."""
    page = files("codat_commerce_async.cli._report_page")
    script = page.joinpath("report.js").read_text(encoding="utf-8")
    parts = {
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "style": page.joinpath("report.css").read_text(encoding="utf-8"),
        "refresh": f'<meta http-equiv="refresh" content="{refresh:g}">' if refresh is not None else "",
        "title": _text(f"Run {data.run.run_id}"),
        "subtitle": _text(_subtitle(data)),
        "tiles": _tiles(data),
        "timeline": _timeline(data),
        "durations": _durations(data.entries),
        "minutes": _requests_per_minute(data.minutes),
        "outcomes": _outcomes(data.entries),
        "failures": _failures(data.entries),
        "rows": _json(_rows(data.entries)),
        "rows_note": _text(_rows_note(len(data.entries))),
        "footer": _text(f"codat-commerce-async {__version__}. Written {_moment(now)}. All times are in UTC."),
    }
    return _PLACEHOLDER.sub(lambda match: parts[match[1]], page.joinpath("report.html").read_text(encoding="utf-8"))


def _text(text: str) -> str:
    return escape(one_line(text))


def _json(value: object) -> str:
    """Return JSON that can be in a script element: https://html.spec.whatwg.org/multipage/scripting.html#restrictions-for-contents-of-script-elements."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _subtitle(data: RunData) -> str:
    run = data.run
    end = f"ended {_moment(run.ended_at)}" if run.ended_at is not None else "has not ended"
    return f"{data.journal}, run {run.number}: began {_moment(run.began_at)}, {end}"


def _tiles(data: RunData) -> str:
    states = Counter(entry.state for entry in data.entries)
    ended = sum(states[state] for state in ("succeeded", "failed", "error"))
    total = max(data.run.companies or 0, len(data.entries))
    share = f"{_share(states['succeeded'], ended)} of {ended:,} ended" if ended else ""
    open_syncs = states["starting"] + states["running"]
    seconds = _finished_durations(data.entries)
    tiles = [
        ("Companies", f"{total:,}", f"{total - len(data.entries):,} not started" if total > len(data.entries) else ""),
        ("Succeeded", f"{states['succeeded']:,}", share),
        ("Failed", f"{states['failed']:,}", "ended with a failure at Codat"),
        ("Errors", f"{states['error']:,}", "not started, or the end was not observed"),
        *([("Running", f"{open_syncs:,}", "requested, no outcome yet")] if open_syncs else []),
        ("Elapsed", format_duration(_elapsed(data)), f"{sum(entry.polls or 0 for entry in data.entries):,} polls"),
        ("Median", format_duration(median(seconds)) if seconds else "–", "of the finished syncs"),  # noqa: RUF001 - a dash for no value
        ("95th percentile", format_duration(_percentile(seconds)) if seconds else "–", "of the finished syncs"),  # noqa: RUF001 - likewise
    ]
    return "".join(
        f'<div class="tile"><dt>{_text(name)}</dt><dd>{_text(value)}</dd><dd class="note">{_text(note)}</dd></div>'
        for name, value, note in tiles
    )


def _share(part: int, whole: int) -> str:
    # 1,999 of 2,000 are not 100 %.
    return f"{math.floor(1000 * part / whole) / 10:g} %"


def _elapsed(data: RunData) -> float:
    last = max((entry.ended_at for entry in data.entries if entry.ended_at is not None), default=None)
    end = data.run.ended_at or (datetime.fromtimestamp(last, UTC) if last is not None else data.run.began_at)
    return max(0.0, (end - data.run.began_at).total_seconds())


def _finished_durations(entries: Iterable[JournalEntry]) -> list[float]:
    return sorted(entry.elapsed for entry in entries if entry.has_status and entry.elapsed is not None)


def _percentile(durations: Sequence[float]) -> float:
    """Return the 95th percentile of sorted durations, by nearest rank."""
    return durations[math.ceil(len(durations) * _HIGH_PERCENTILE) - 1]


def _timeline(data: RunData) -> str:
    sent = sorted(entry.sent_at for entry in data.entries if entry.sent_at is not None)
    ended = sorted(entry.ended_at for entry in data.entries if entry.has_ended and entry.ended_at is not None)
    # A company that could not be requested has an end and no start.
    left = [entry.ended_at for entry in data.entries if entry.has_ended and entry.ended_at and entry.sent_at]
    left.sort()
    times = [*sent[:1], *sent[-1:], *ended[:1], *ended[-1:]]
    if not times or max(times) <= min(times):
        return _nothing("No syncs yet.")
    start, end = min(times), max(times)
    moments = [start + (end - start) * number / _MAX_POINTS for number in range(_MAX_POINTS + 1)]
    # Not below 0 if the clock was set back during the run.
    running = [(moment, max(0, bisect_right(sent, moment) - bisect_right(left, moment))) for moment in moments]
    finished = [(moment, bisect_right(ended, moment)) for moment in moments]
    most = max(count for _, count in running)
    label = f"{most:,} syncs ran at once at most; {len(ended):,} have ended"
    lines = [Line("running", running, fill=True), Line("finished", finished)]
    return _figure(draw_lines(lines, _time_ticks(start, end), label), ("running", "finished"), label)


def _durations(entries: Sequence[JournalEntry]) -> str:
    seconds = _finished_durations(entries)
    if not seconds:
        return _nothing("No sync has finished yet.")
    middle, high = median(seconds), _percentile(seconds)
    longest = min(seconds[-1], _LONGEST_SHOWN * high) or 1.0
    width = longest / _BINS
    counts = Counter(min(_BINS - 1, int(each / width)) for each in seconds if each <= longest)
    bars = [
        Bar(counts[number], number * width, (number + 1) * width, _bin_text(number * width, width, counts[number]))
        for number in range(_BINS)
    ]
    top, thin = max(counts.values()), longest / 150
    marks = {"median": middle, "95th percentile": high}
    series = {"syncs": bars, **{name: [_mark(top, value, thin, name)] for name, value in marks.items()}}
    legend = ("syncs", *(f"{name} {format_duration(value)}" for name, value in marks.items()))
    beyond = len(seconds) - sum(counts.values())
    label = f"longest {format_duration(seconds[-1])}" + (f"; {beyond:,} longer than shown" if beyond else "")
    svg = draw_bars(series, _duration_ticks(longest), f"durations of finished syncs, {label}")
    return _figure(svg, legend, label)


def _mark(height: int, position: float, thin: float, name: str) -> Bar:
    return Bar(height, max(0.0, position - thin / 2), position + thin / 2, f"{name}: {format_duration(position)}")


def _bin_text(start: float, width: float, count: int) -> str:
    return f"{start:.1f} to {start + width:.1f} s: {format_count(count, 'sync')}"


def _requests_per_minute(minutes: Sequence[MinuteCounts]) -> str:
    if not minutes:
        return _nothing("No requests recorded.")
    counts = {int(each.minute.timestamp()) // _MINUTE: (each.starts, each.polls) for each in minutes}
    first, last = min(counts), max(counts)
    # Of a long run, each step shows its busiest minute, as the quota is per minute.
    step = -(-(last - first + 1) // _MAX_POINTS)
    shown = {
        begin: max((counts.get(minute, (0, 0)) for minute in range(begin, min(begin + step, last + 1))), key=sum)
        for begin in range(first, last + 1, step)
    }
    starts, both = [], []
    for begin, (started, polled) in shown.items():
        # A minute is a step of the line, so that a run of one minute is visible too.
        for edge in (begin, min(begin + step, last + 1)):
            starts.append((float(edge * _MINUTE), float(started)))
            both.append((float(edge * _MINUTE), float(started + polled)))
    lines = [Line("starts and polls", both, fill=True), Line("starts", starts)]
    lines.append(Line("quota", [(edge, float(_QUOTA_PER_MINUTE)) for edge in (both[0][0], both[-1][0])]))
    most = max(map(sum, counts.values()))
    label = f"{sum(each.starts for each in minutes):,} starts and {sum(each.polls for each in minutes):,} polls; "
    label += f"{most:,} in the busiest minute"
    svg = draw_lines(lines, _time_ticks(both[0][0], both[-1][0]), label)
    return _figure(svg, ("starts and polls", "starts", f"quota {_QUOTA_PER_MINUTE:,}"), label)


def _time_ticks(start: float, end: float) -> dict[float, str]:
    step = _step(end - start)
    form = "%H:%M:%S" if step < _MINUTE else "%H:%M"
    first = math.ceil(start / step) * step
    times = range(first, math.floor(end) + 1, step)
    return {float(time): f"{datetime.fromtimestamp(time, UTC):{form}}" for time in times}


def _duration_ticks(longest: float) -> dict[float, str]:
    step = _step(longest)
    return {float(value): _short_duration(value) for value in range(0, math.floor(longest) + 1, step)}


def _short_duration(seconds: int) -> str:
    return format_duration(seconds).removesuffix(" 0 s").removesuffix(" 0 min")


def _step(span: float) -> int:
    return next((step for step in _STEPS if span / step <= _TICKS), math.ceil(span / _TICKS))


def _figure(svg: str, legend: Sequence[str], caption: str) -> str:
    names = "".join(f'<li class="color-{number}">{_text(name)}</li>' for number, name in enumerate(legend))
    return f'<figure>{svg}<ul class="legend">{names}</ul><figcaption>{_text(caption)}</figcaption></figure>'


def _nothing(text: str) -> str:
    return f'<p class="nothing">{_text(text)}</p>'


def _outcomes(entries: Sequence[JournalEntry]) -> str:
    counts: Counter[tuple[str, str]] = Counter()
    examples = {(entry.state, entry.outcome): entry for entry in entries}
    for key, count in Counter((entry.state, entry.outcome) for entry in entries).items():
        result = Result.of_entry(examples[key])
        counts[(key[0], key[0] if result is None else result.label)] += count
    if not counts:
        return _nothing("No syncs yet.")
    body = "".join(
        f'<tr><th scope="row">{_text(label)}</th><td class="number">{_meter(count, len(entries), state)}</td></tr>'
        for (state, label), count in counts.most_common()
    )
    return f'<table class="outcomes"><tbody>{body}</tbody></table>'


def _meter(count: int, most: int, kind: str) -> str:
    return f'<meter class="{kind}" max="{most}" value="{count}"></meter> <span>{count:,}</span>'


def _failures(entries: Sequence[JournalEntry]) -> str:
    groups = [*group_by_cause(map(diagnosis_of, entries)), *_undiagnosed(entries)]
    groups.sort(key=lambda group: (-group.count, group.cause))
    if not groups:
        return _nothing("None.")
    body = "".join(_failure_row(group, groups[0].count) for group in groups[:_MAX_GROUPS])
    more = _nothing(f"... and {len(groups) - _MAX_GROUPS} more groups") if len(groups) > _MAX_GROUPS else ""
    headings = "".join(f'<th scope="col">{name}</th>' for name in ("Cause", "Syncs", "Resolver", "What to do"))
    return f'<table class="failures"><thead><tr>{headings}</tr></thead><tbody>{body}</tbody></table>{more}'


def _undiagnosed(entries: Iterable[JournalEntry]) -> list[CauseGroup]:
    """Return the failures without a diagnosis, by their outcome."""
    found: dict[str, list[tuple[str, str]]] = {}
    for entry in entries:
        result = Result.of_entry(entry) if entry.state in {"failed", "error"} and entry.diagnosis is None else None
        if result is not None:
            found.setdefault(result.label, []).append((entry.request.company_id, result.reason or ""))
    return [
        CauseGroup(label, _NOT_DIAGNOSED, len(each), tuple(company for company, _ in each[:3]), each[0][1])
        for label, each in found.items()
    ]


def _failure_row(group: CauseGroup, most: int) -> str:
    cells = (
        f'<th scope="row">{_text(group.cause.replace("_", " "))}</th>',
        f'<td class="number">{_meter(group.count, most, "failed")}</td>',
        f"<td>{_text(group.resolver.replace('_', ' '))}</td>",
        f"<td>{_text(group.action)}<small>for example {_text(', '.join(group.examples))}</small></td>",
    )
    return f"<tr>{''.join(cells)}</tr>"


def _rows(entries: Sequence[JournalEntry]) -> list[list[object]]:
    if len(entries) > MAX_ROWS:
        entries = sorted(entries, key=lambda entry: entry.state == "succeeded")[:MAX_ROWS]
    return [_row(entry) for entry in entries]


def _row(entry: JournalEntry) -> list[object]:
    """Return the cells of one sync; `report.js` names them in the same order."""
    result, handle, found = Result.of_entry(entry), entry.handle, diagnosis_of(entry)
    ended = "" if entry.ended_at is None else f"{datetime.fromtimestamp(entry.ended_at, UTC):%H:%M:%S}"
    return [
        one_line(entry.request.company_id),
        entry.state,
        entry.state if result is None else result.label,
        None if entry.elapsed is None else round(entry.elapsed, 1),
        ended,
        one_line((handle.sync_id if handle is not None else None) or ""),
        one_line((handle.commerce_sync_id if handle is not None else None) or ""),
        "" if found is None else f"{found.cause} ({found.resolver})".replace("_", " "),
        one_line((result.reason if result is not None else None) or ""),
    ]


def _rows_note(count: int) -> str:
    if count <= MAX_ROWS:
        return ""
    return f"The table has {MAX_ROWS:,} of {count:,} syncs: first those without success. report --csv writes all."
