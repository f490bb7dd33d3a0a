"""Argument parsers of the commands, and the options they return."""

import argparse
import asyncio
import math
import os
import re
import sys
from base64 import b64decode
from collections.abc import Callable, Coroutine, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, NoReturn, TypeAlias
from urllib.parse import urlsplit

from attrs import evolve, fields, frozen

from codat_commerce_async._core.operation import check_id
from codat_commerce_async._core.text import one_line
from codat_commerce_async._version import __version__
from codat_commerce_async.cli._exit import EXIT_USAGE
from codat_commerce_async.models.causes import FailureCause

__all__ = [
    "PROGRAM",
    "Command",
    "DemoOptions",
    "DiagnoseOptions",
    "Options",
    "ReportOptions",
    "SimulateOptions",
    "SyncOptions",
    "WaitOptions",
    "check_company_id",
    "parse",
]

PROGRAM = "codat-commerce-async"

_MAX_COUNT = 1_000_000
_MAX_PROCESSES = 100
_MAX_PORT = 65_535
_MAX_SEED = 2**63 - 1
# int does not convert more digits than some thousands: https://docs.python.org/3/library/stdtypes.html#int-max-str-digits
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,300}(\.[0-9]{0,300})?|\.[0-9]{1,300})(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_SECRET = "whsec_"  # noqa: S105 - its prefix
_SUCCESS = 2000
_FINAL_THOUSANDS = frozenset({2, 4, 5})

_EXIT_STATUS_HELP = """\
exit status: 0 every sync succeeded; 1 a sync failed, or its end was not observed; 2 invalid input: an argument, a
variable, a file or a journal, also an API key that is not accepted; 3 nothing was started, because all had ended
before; 75 try again later: there is no connection, or the journal is in use; 130 ctrl-C; 143 SIGTERM.
"""


CommandFunction: TypeAlias = Callable[[Any], Coroutine[object, object, int]]
LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


@frozen
class Command:
    """A command's coroutine function, whose module is imported only to run it: `sync` does not need the simulator."""

    module: str
    function: str

    def load(self) -> tuple[CommandFunction, LoopFactory | None]:
        """Import the module and return the function, and the loop factory if the module defines one (`LOOP`)."""
        module = import_module(f"codat_commerce_async.cli.{self.module}")
        return getattr(module, self.function), getattr(module, "LOOP", None)


@frozen(kw_only=True)
class Options:
    """The options of one command: its name, how to run it, and all arguments (`argv`)."""

    command: str
    run: Command
    argv: tuple[str, ...]


@frozen(kw_only=True)
class DemoOptions(Options):
    """The options of `demo`."""

    seed: int
    speed: float
    processes: int


@frozen(kw_only=True)
class SyncOptions(Options):
    """The options of `sync`."""

    company_ids: Sequence[str]
    source: str | None
    column: str | None
    journal: str | None
    run_id: str | None
    keep_runs: int | None
    objective: Literal["latency", "throughput"]
    json: bool
    quiet: bool
    diagnose: bool
    timeout: float
    max_running: int | None


@frozen(kw_only=True)
class WaitOptions(Options):
    """The options of `wait`."""

    file: str
    timeout: float
    max_running: int | None


@frozen(kw_only=True)
class DiagnoseOptions(Options):
    """The options of `diagnose`."""

    company_id: str
    sync_id: str | None
    json: bool


@frozen(kw_only=True)
class ReportOptions(Options):
    """The options of `report`."""

    journal: str
    run_id: str | None
    format: Literal["json", "csv"] | None
    html: str | None
    failed: bool
    follow: bool


@frozen(kw_only=True)
class SimulateOptions(Options):
    """The options of `simulate`."""

    port: int
    companies: int
    list_to: str | None
    faults: float
    outcomes: Mapping[int | FailureCause, float] | None
    seed: int
    speed: float
    webhooks: str | None
    secret: str | None


# What `add_subparsers` returns has no public name: https://docs.python.org/3/library/argparse.html#sub-commands
_AddParser: TypeAlias = Callable[..., argparse.ArgumentParser]


class _Parser(argparse.ArgumentParser):
    """Reports an invalid argument in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with 2."""
        self.exit(EXIT_USAGE, f"{self.prog}: {one_line(message)}; see {self.prog} --help\n")


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Return the options of one command; raise SystemExit after printing help, the version or an error."""
    argv = tuple(sys.argv[1:] if arguments is None else arguments)
    parser = _Parser(
        PROGRAM, description="Codat's Sync for Commerce API, from the command line.", epilog=_EXIT_STATUS_HELP
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_demo, _add_sync, _add_wait, _add_diagnose, _add_report, _add_simulate):
        add(commands.add_parser)
    namespace = parser.parse_args(argv)
    kind: type[Options] = namespace.options
    options = kind(
        **{each.name: getattr(namespace, each.name) for each in fields(kind) if each.name != "argv"}, argv=argv
    )
    if isinstance(options, DemoOptions) and options.processes > 1:
        # In real time: processes do not share a virtual clock.
        options = evolve(options, run=Command("demo_processes", "demo_processes"))
    if isinstance(options, SyncOptions):
        _check_sync(options, commands.choices["sync"])
    if isinstance(options, SimulateOptions) and (options.webhooks is None) != (options.secret is None):
        commands.choices["simulate"].error("--webhooks and --secret require each other")
    if isinstance(options, ReportOptions):
        _check_report(options, commands.choices["report"])
    return options


def _add_demo(add_parser: _AddParser) -> None:
    command = add_parser(
        "demo",
        help="sync a dozen companies of a simulated Codat",
        description="Start a simulated Codat, set up a dozen companies through the client, and sync them all at once. "
        "Two syncs fail on purpose, and some responses are lost or are errors. Needs no key and no network.",
        epilog="exit status: 0 if every sync ended as the simulator planned and none was started twice, else 1.",
    )
    command.set_defaults(options=DemoOptions, run=Command("demo", "demo"))
    command.add_argument(
        "--processes",
        type=_processes,
        default=1,
        metavar="N",
        help="instead, let N processes share one quota for 20 seconds of real time, and kill one of them",
    )
    _add_seed(command, 7)
    _add_speed(command, 5.0)


def _add_sync(add_parser: _AddParser) -> None:
    command = add_parser(
        "sync",
        help="sync companies at Codat and wait for them",
        description="Start a sync of each company and wait until all have ended. Reads the API key from CODAT_API_KEY "
        "and the base URL from CODAT_BASE_URL, if set. With a journal, the same command continues after a crash, "
        "ctrl-C or a timeout; syncs that had failed by then are not repeated. Without one, the handles of running "
        "syncs are printed, one line of JSON each, for the wait command.",
        epilog=_EXIT_STATUS_HELP,
    )
    command.set_defaults(options=SyncOptions, run=Command("sync", "sync"))
    command.add_argument("company_ids", nargs="*", metavar="COMPANY_ID", type=_company_id)
    command.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        help="read company ids from a file ('-': standard input), one per line; blank lines and # comments are skipped",
    )
    command.add_argument("--column", metavar="NAME", help="read the company ids from this column of a CSV file")
    command.add_argument("--journal", metavar="FILE", help="record the run in this file, and resume from it")
    command.add_argument(
        "--run",
        dest="run_id",
        metavar="ID",
        type=_run_id,
        help="begin or continue this run of the journal (default: the unfinished one, else today's UTC date)",
    )
    command.add_argument(
        "--keep-runs", type=_count, metavar="N", help="delete older runs from the journal (default: keep all)"
    )
    command.add_argument(
        "--objective",
        choices=("latency", "throughput"),
        default="throughput",
        help="when requests are short: report each end early, or finish the run early (default: %(default)s)",
    )
    command.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object per line as each sync ends, and the summary on standard error",
    )
    command.add_argument("--quiet", action="store_true", help="show no progress")
    command.add_argument(
        "--diagnose",
        action="store_true",
        help="find the cause of each failure that has no diagnosis in the journal yet: up to five more requests each",
    )
    _add_waiting(command)


def _check_sync(options: SyncOptions, command: argparse.ArgumentParser) -> None:
    if not options.company_ids and options.source is None:
        command.error("give at least one COMPANY_ID, or a file of ids with --from")
    if options.column is not None and options.source is None:
        command.error("--column requires --from")
    if options.journal is None and (options.run_id is not None or options.keep_runs is not None):
        command.error("--run and --keep-runs require --journal")


def _add_wait(add_parser: _AddParser) -> None:
    command = add_parser(
        "wait",
        help="wait for syncs that were started before",
        description="Wait for the syncs whose handles are in a file, one line of JSON each. Other lines are skipped, "
        "so that you can pass the saved output of the sync command.",
        epilog=_EXIT_STATUS_HELP,
    )
    command.set_defaults(options=WaitOptions, run=Command("wait", "wait"))
    command.add_argument("file", nargs="?", default="-", metavar="FILE", help="'-' (the default) for standard input")
    _add_waiting(command)


def _add_diagnose(add_parser: _AddParser) -> None:
    command = add_parser(
        "diagnose",
        help="find out why a sync failed, and who has to act",
        description="Print the cause of a failed sync, who has to act, what to do, and the evidence. Sends up to six "
        "requests with the API key in CODAT_API_KEY.",
        epilog="exit status: 0 the sync could be read, whether it failed or not; 1 it could not, as it is unknown; "
        "2 invalid input, also an API key that is not accepted; 75 try again later: there is no connection, or Codat "
        "cannot respond now.",
    )
    command.set_defaults(options=DiagnoseOptions, run=Command("diagnose", "diagnose"))
    command.add_argument("company_id", metavar="COMPANY_ID", type=_company_id)
    command.add_argument(
        "sync_id", nargs="?", metavar="SYNC_ID", type=_company_id, help="default: the company's newest sync"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object; null if the sync has not failed")


def _add_report(add_parser: _AddParser) -> None:
    command = add_parser(
        "report",
        help="report the contents of a journal",
        description="Report a journal of the sync command or of run_many: each sync with its outcome and duration, and "
        "the totals.",
        epilog="exit status: 0 if the journal could be read; 2 if it is missing, damaged or not a journal. You can "
        "report a journal while a run is writing it.",
    )
    command.set_defaults(options=ReportOptions, run=Command("report", "report"))
    command.add_argument("journal", metavar="JOURNAL")
    command.add_argument("--run", dest="run_id", metavar="ID", help="the run to report (default: the newest)")
    formats = command.add_mutually_exclusive_group()
    formats.add_argument(
        "--html",
        metavar="FILE",
        help="write a page with charts and a searchable table to this file; it needs no network",
    )
    formats.add_argument(
        "--json",
        dest="format",
        action="store_const",
        const="json",
        help="print one JSON object: journal, summary, syncs",
    )
    formats.add_argument(
        "--csv",
        dest="format",
        action="store_const",
        const="csv",
        help="print one line per sync; `sync --from` accepts it",
    )
    command.add_argument(
        "--failed", action="store_true", help="only the syncs that failed, or whose end was not observed"
    )
    command.add_argument(
        "--follow",
        action="store_true",
        help="report again every 5 seconds until the run has ended; with --html, a browser reloads the page",
    )


def _check_report(options: ReportOptions, command: argparse.ArgumentParser) -> None:
    if options.follow and options.format is not None:
        command.error(f"--follow cannot be combined with --{options.format}")
    if options.failed and options.html is not None:
        command.error("--failed cannot be combined with --html, whose table has a filter")
    if options.html is not None and _belongs_to(options.html, options.journal):
        command.error("--html must be another file than the journal and its lock file")


def _belongs_to(name: str, journal: str) -> bool:
    """Return whether the name is that of the journal, or of a file that belongs to it."""
    if "\0" in name + journal:
        return False
    path = os.path.realpath(journal)
    return os.path.realpath(name) in {path, *(f"{path}{suffix}" for suffix in (".lock", "-journal", "-wal"))}


def _add_simulate(add_parser: _AddParser) -> None:
    command = add_parser(
        "simulate",
        help="serve a simulated Codat until ctrl-C or SIGTERM",
        description="Serve a simulated Codat on this machine until ctrl-C or SIGTERM, and print its URL and API key. "
        "Without --outcomes, 90 % of the syncs write data (2000) and 10 % find nothing to write (2040). They take 2 to "
        "120 simulated seconds, half of them less than 12. Without --faults, no request fails.",
    )
    command.set_defaults(options=SimulateOptions, run=Command("simulate", "simulate"))
    command.add_argument("--port", type=_port, default=0, help="port to listen on; 0 (the default) chooses a free one")
    command.add_argument("--companies", type=_count, default=3, help="number of companies (default: %(default)s)")
    command.add_argument("--list", dest="list_to", metavar="FILE", help="write the company ids to a file")
    command.add_argument(
        "--faults",
        type=_probability,
        default=0.0,
        metavar="RATE",
        help="share of responses, 0 to 1, that are lost, truncated or temporary errors, all kinds equally "
        "often (default: %(default)g)",
    )
    command.add_argument(
        "--outcomes",
        type=_outcomes,
        metavar="KEY=SHARE,...",
        help="shares of syncs, 0 to 1, that end with a status code or because of a cause, such as "
        "5130=0.1,unmapped_account=0.02; all others write data (2000)",
    )
    command.add_argument("--webhooks", metavar="URL", type=_url, help="post the events as signed webhooks to this URL")
    command.add_argument("--secret", metavar="SECRET", type=_secret, help="secret of the signatures: whsec_ and base64")
    _add_seed(command, 0)
    _add_speed(command, 1.0)


def _add_seed(command: argparse.ArgumentParser, default: int) -> None:
    command.add_argument(
        "--seed",
        type=_seed,
        default=default,
        help="seed of the random numbers; the same seed repeats the same run (default: %(default)s)",
    )


def _add_speed(command: argparse.ArgumentParser, default: float) -> None:
    command.add_argument(
        "--speed", type=_positive, default=default, help="simulated seconds per real one (default: %(default)g)"
    )


def _add_waiting(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--timeout", type=_positive, default=3600.0, help="seconds to wait for each sync (default: %(default)g)"
    )
    command.add_argument(
        "--max-running", type=_count, metavar="N", help="maximum number of syncs that run at once (default: no limit)"
    )


def check_company_id(text: str) -> str:
    """Return the text if it can be an id, else raise ValueError."""
    check_id("company_id", text)
    return text


def _company_id(text: str) -> str:
    try:
        return check_company_id(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _run_id(text: str) -> str:
    # Only this option needs it.
    from codat_commerce_async.syncing.run import RunOptions, check_run_options  # noqa: PLC0415

    try:
        check_run_options(RunOptions(run_id=text), "journal")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _positive(text: str) -> float:
    number = _number(text)
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"must be a number greater than 0 (got {text})")
    return number


def _url(text: str) -> str:
    try:
        url = urlsplit(text)
        valid = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise argparse.ArgumentTypeError(f"must be an http or https URL with a host (got {text})")
    return text


def _secret(text: str) -> str:
    try:
        valid = text.startswith(_SECRET) and bool(b64decode(text.removeprefix(_SECRET), validate=True))
    except ValueError:
        valid = False
    if not valid:
        raise argparse.ArgumentTypeError(f"must be {_SECRET} followed by base64")
    return text


def _probability(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 1 (got {text})")
    return number


def _outcomes(text: str) -> dict[int | FailureCause, float]:
    """Return the weights of the outcomes: the shares of the text, and what they leave for a success."""
    outcomes: dict[int | FailureCause, float] = {}
    for pair in text.split(","):
        key, separator, share = pair.strip().partition("=")
        if not separator:
            raise argparse.ArgumentTypeError(f"must be KEY=SHARE, separated by commas (got {pair!r})")
        outcome = _outcome(key.strip())
        if outcome in outcomes:
            raise argparse.ArgumentTypeError(f"must have each outcome once (got {key.strip()} twice)")
        outcomes[outcome] = _probability(share.strip())
    total = math.fsum(outcomes.values())
    if total > 1:
        raise argparse.ArgumentTypeError(f"must have shares that add up to 1 at most (got {total:g})")
    outcomes[_SUCCESS] = outcomes.get(_SUCCESS, 0.0) + 1 - total
    return outcomes


def _outcome(key: str) -> int | FailureCause:
    """Return the final status code or the cause that a key names."""
    if key.isascii() and key.isdecimal() and int(key) // 1000 in _FINAL_THOUSANDS:
        return int(key)
    if key in list(FailureCause):
        return FailureCause(key)
    causes = ", ".join(FailureCause)
    raise argparse.ArgumentTypeError(
        f"must have a final status code (2xxx, 4xxx, 5xxx) or one of {causes} (got {key!r})"
    )


def _number(text: str) -> float:
    # float and int accept underscores, spaces and the digits of every script.
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def _count(text: str) -> int:
    return _integer(text, 1, _MAX_COUNT)


def _processes(text: str) -> int:
    return _integer(text, 1, _MAX_PROCESSES)


def _port(text: str) -> int:
    return _integer(text, 0, _MAX_PORT)


def _seed(text: str) -> int:
    return _integer(text, -_MAX_SEED, _MAX_SEED)


def _integer(text: str, least: int, most: int) -> int:
    number = int(text) if _INTEGER.fullmatch(text) else None
    if number is None or not least <= number <= most:
        raise argparse.ArgumentTypeError(f"must be an integer between {least} and {most} (got {text})")
    return number
