"""What can be typed, and what it means."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from codat_commerce_async._core.operation import Operation
from codat_commerce_async._version import __version__

__all__ = [
    "PROGRAM",
    "DemoOptions",
    "Options",
    "ReportOptions",
    "SimulateOptions",
    "SyncOptions",
    "WaitOptions",
    "check_company_id",
    "parse",
]

PROGRAM = "codat-commerce-async"

_HIGHEST_PORT = 65_535
_COMPANY = Operation("get-company", "GET", "/companies/{companyId}", object)

_EXIT_STATUS_HELP = """\
exit status: 0 all is well; 1 a sync failed or was not seen to its end; 2 nothing could be done (no key, a wrong key,
no server, a wrong argument); 130 ctrl-C.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one command; `command` is its name, `argv` everything that was typed."""

    command: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions(Options):
    """The options of `demo`."""

    seed: int
    speed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOptions(Options):
    """The options of `sync`."""

    company_ids: Sequence[str]
    source: str | None
    column: str | None
    journal: str | None
    objective: Literal["latency", "throughput"]
    timeout: float
    max_running: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOptions(Options):
    """The options of `wait`."""

    file: str
    timeout: float
    max_running: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions(Options):
    """The options of `report`."""

    journal: str
    format: Literal["json", "csv"] | None
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions(Options):
    """The options of `simulate`."""

    port: int
    companies: int
    list_to: str | None
    faults: float
    seed: int
    speed: float


# What `add_subparsers` returns has no public name: https://docs.python.org/3/library/argparse.html#sub-commands
_AddParser: TypeAlias = Callable[..., argparse.ArgumentParser]


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Return the options of one command; raise SystemExit after printing help, the version or what is wrong."""
    argv = tuple(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        PROGRAM, description="Codat's Sync for Commerce API, from the command line.", epilog=_EXIT_STATUS_HELP
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_demo, _add_sync, _add_wait, _add_report, _add_simulate):
        add(commands.add_parser)
    namespace = parser.parse_args(argv)
    kind: type[Options] = namespace.run
    options = kind(
        **{each.name: getattr(namespace, each.name) for each in fields(kind) if each.name != "argv"}, argv=argv
    )
    if isinstance(options, SyncOptions):
        _check_sync(options, commands.choices["sync"])
    return options


def _add_demo(add_parser: _AddParser) -> None:
    command = add_parser(
        "demo",
        help="sync a dozen companies of a simulated Codat",
        description="Start a simulated Codat, set up a dozen companies through the client, and sync them all at once. "
        "Two of them fail on purpose and some answers go wrong on the way. Needs no key and no network.",
        epilog="exit status: 0 when every sync ended as the simulator had it in mind and none began twice, else 1.",
    )
    command.set_defaults(run=DemoOptions)
    _add_seed(command, 7)
    _add_speed(command, 5.0)


def _add_sync(add_parser: _AddParser) -> None:
    command = add_parser(
        "sync",
        help="sync companies at Codat and wait for them",
        description="Start a sync of each company and wait for their ends. Takes the API key from CODAT_API_KEY, and "
        "the server from CODAT_BASE_URL if that is set. With a journal the same command goes on after a crash, ctrl-C "
        "or a timeout; what had failed by then is not synced again. Without one, what is still running is printed as "
        "handles, one line of JSON each, which the wait command takes.",
        epilog=_EXIT_STATUS_HELP,
    )
    command.set_defaults(run=SyncOptions)
    command.add_argument("company_ids", nargs="*", metavar="COMPANY_ID", type=_company_id)
    command.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        help="take company ids from a file, '-' for standard input: one a line, blank lines and # comments aside",
    )
    command.add_argument("--column", metavar="NAME", help="the file is CSV, and this column has the company ids")
    command.add_argument("--journal", metavar="FILE", help="keep what was done in this file, and go on from there")
    command.add_argument(
        "--objective",
        choices=("latency", "throughput"),
        default="throughput",
        help="when requests are short: know each end early, or finish the run early (default: %(default)s)",
    )
    _add_waiting(command)


def _check_sync(options: SyncOptions, command: argparse.ArgumentParser) -> None:
    if not options.company_ids and options.source is None:
        command.error("which companies? Give COMPANY_IDs, or a file of them with --from")
    if options.column is not None and options.source is None:
        command.error("--column is for the file that --from names")


def _add_wait(add_parser: _AddParser) -> None:
    command = add_parser(
        "wait",
        help="wait for syncs that were started before",
        description="Wait for the syncs whose handles stand in a file, one line of JSON each; lines that are not JSON "
        "objects are skipped, so that the saved output of the sync command will do.",
        epilog=_EXIT_STATUS_HELP,
    )
    command.set_defaults(run=WaitOptions)
    command.add_argument("file", nargs="?", default="-", metavar="FILE", help="'-' or nothing for standard input")
    _add_waiting(command)


def _add_report(add_parser: _AddParser) -> None:
    command = add_parser(
        "report",
        help="say what a journal holds",
        description="Write down what the journal of the sync command, or of run_many, holds: each sync, how long they "
        "took, and how many ended in which way.",
        epilog="exit status: 0 when the journal could be read, whatever it holds; 2 when it is not there, damaged or "
        "no journal. A journal that is in use is reported as of this moment.",
    )
    command.set_defaults(run=ReportOptions)
    command.add_argument("journal", metavar="JOURNAL")
    formats = command.add_mutually_exclusive_group()
    formats.add_argument(
        "--json", dest="format", action="store_const", const="json", help="one object: journal, summary, syncs"
    )
    formats.add_argument(
        "--csv", dest="format", action="store_const", const="csv", help="a line for each sync; `sync --from` takes it"
    )
    command.add_argument("--failed", action="store_true", help="only the syncs that failed or could not be followed")


def _add_simulate(add_parser: _AddParser) -> None:
    command = add_parser(
        "simulate",
        help="serve a simulated Codat until ctrl-C",
        description="Serve a simulated Codat on this machine until ctrl-C, and print what to call it with.",
    )
    command.set_defaults(run=SimulateOptions)
    command.add_argument("--port", type=_port, default=0, help="0 (the default) takes a free one")
    command.add_argument("--companies", type=_count, default=3, help="companies to begin with (default: %(default)s)")
    command.add_argument("--list", dest="list_to", metavar="FILE", help="write the companies' ids to a file")
    command.add_argument(
        "--faults",
        type=_probability,
        default=0.0,
        metavar="RATE",
        help="the share of answers, 0 to 1, that get lost, cut off, or are no good in other ways that pass "
        "(default: %(default)g)",
    )
    _add_seed(command, 0)
    _add_speed(command, 1.0)


def _add_seed(command: argparse.ArgumentParser, default: int) -> None:
    command.add_argument("--seed", type=int, default=default, help="the same seed, the same run (default: %(default)s)")


def _add_speed(command: argparse.ArgumentParser, default: float) -> None:
    command.add_argument(
        "--speed", type=_positive, default=default, help="simulated seconds per real one (default: %(default)g)"
    )


def _add_waiting(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--timeout", type=_positive, default=3600.0, help="seconds to wait for each sync (default: %(default)g)"
    )
    command.add_argument(
        "--max-running", type=_count, metavar="N", help="how many syncs may run at once (default: no limit)"
    )


def check_company_id(text: str) -> str:
    """Return the text itself; raise ValueError if it would lead to another endpoint."""
    _COMPANY.format_path((text,))
    return text


def _company_id(text: str) -> str:
    try:
        return check_company_id(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> float:
    number = _number(text)
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def _probability(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 to 1")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= _HIGHEST_PORT):
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return int(text)
