"""The pytest plugin: fixtures with a simulated Codat and a client of it.

PYTEST_DONT_REWRITE: this module has no asserts, and may be imported before pytest could rewrite it.
"""

from random import Random
from typing import TYPE_CHECKING, TypeVar

import pytest

# Every pytest run in an environment with this package imports this module, so it imports the rest on use.
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pytest_asyncio.plugin import _ScopeName as LoopScope

    from codat_commerce_async.client import CodatCommerce
    from codat_commerce_async.simulator import Simulator
    from codat_commerce_async.simulator.in_memory import InMemoryTransport

__all__ = ["pytest_configure"]

_MARK = "codat_simulator"
_SPEED = 100.0
_NOON = 1_705_320_000.0  # 2024-01-15T12:00:00Z, far from the midnight at which the daily quota is reset
_PYTEST_ASYNCIO = ("asyncio", "pytest_asyncio", "pytest_asyncio.plugin")
_SCOPES: "tuple[LoopScope, ...]" = ("function", "class", "module", "package", "session")

T = TypeVar("T")


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark and the fixtures `codat_simulator` and `codat`.

    Args:
        config: The configuration of pytest.
    """
    config.addinivalue_line("markers", f"{_MARK}(**options): the arguments of this test's simulator")
    config.pluginmanager.register(_Fixtures(), f"{__name__} fixtures")
    if _has_pytest_asyncio(config):
        config.pluginmanager.register(_loop_fixtures(), f"{__name__} fixtures of event loops")


class _Fixtures:
    @pytest.fixture
    def codat_simulator(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> "Iterator[Simulator]":
        """Serve a new simulated Codat on loopback, and set CODAT_API_KEY, CODAT_BASE_URL and CODAT_SPEED for it.

        It is served from its own thread, so that every kind of test can use it: `async def` under any runner and loop
        scope, plain functions, `unittest`, and `TestClient` of Starlette and FastAPI. Its clock starts at noon and runs
        a hundred times as fast as real time. On a `VirtualTimeLoop` it is served by that loop, and follows the loop's
        time. `@pytest.mark.codat_simulator(...)` accepts the arguments of `Simulator`.
        """
        in_loop = _loop_fixture_name(request, "simulator")
        served: Simulator | None = request.getfixturevalue(in_loop) if in_loop else None
        if served is not None:
            monkeypatch.delenv("CODAT_SPEED", raising=False)
            yield _in_environment(served, monkeypatch)
            return
        with _simulator(request, now=_real_time(), speed=_SPEED) as simulator:
            monkeypatch.setenv("CODAT_SPEED", f"{_SPEED:g}")
            yield _in_environment(simulator, monkeypatch)

    @pytest.fixture
    def codat(self, codat_simulator: "Simulator", request: pytest.FixtureRequest) -> "CodatCommerce":
        """Return an open client of the simulated Codat, with short pauses.

        In a test that pytest-asyncio does not run, it calls the simulator without connections, because no fixture could
        close them. It belongs to the event loop that uses it first.
        """
        in_loop = _loop_fixture_name(request, "client")
        return request.getfixturevalue(in_loop) if in_loop else _client_without_connections(codat_simulator)


def _in_environment(simulator: "Simulator", monkeypatch: pytest.MonkeyPatch) -> "Simulator":
    monkeypatch.setenv("CODAT_API_KEY", simulator.api_key)
    monkeypatch.setenv("CODAT_BASE_URL", simulator.url)
    return simulator


def _loop_fixture_name(request: pytest.FixtureRequest, kind: str) -> str | None:
    """Return the name of the fixture for the test's event loop; None if pytest-asyncio does not run the test."""
    if not _has_pytest_asyncio(request.config):
        return None
    import pytest_asyncio  # noqa: PLC0415 - see above

    if not pytest_asyncio.is_async_test(request.node) or "anyio_backend" in request.fixturenames:
        return None
    marker = request.node.get_closest_marker("asyncio")
    marked = marker.kwargs.get("loop_scope") or marker.kwargs.get("scope") if marker else None
    return _name(kind, marked or request.config.getini("asyncio_default_test_loop_scope") or "function")


def _name(kind: str, loop_scope: str) -> str:
    return f"_codat_{kind}_in_{loop_scope}_loop"


def _has_pytest_asyncio(config: pytest.Config) -> bool:
    return any(config.pluginmanager.hasplugin(name) for name in _PYTEST_ASYNCIO)


def _loop_fixtures() -> object:
    """Return fixtures that pytest-asyncio runs in the event loop of each scope."""
    fixtures: dict[str, object] = {}
    for scope in _SCOPES:
        fixtures[_name("simulator", scope)] = _loop_fixture(_simulator_in_loop, scope, _name("simulator", scope))
        fixtures[_name("client", scope)] = _loop_fixture(_client_in_loop, scope, _name("client", scope))
    return type("_LoopFixtures", (), fixtures)()


def _loop_fixture(
    function: "Callable[[pytest.FixtureRequest], AsyncIterator[T]]", loop_scope: "LoopScope", name: str
) -> object:
    import pytest_asyncio  # noqa: PLC0415 - see above

    @pytest_asyncio.fixture(loop_scope=loop_scope, name=name)
    async def fixture(_: object, request: pytest.FixtureRequest) -> "AsyncIterator[T]":
        async for value in function(request):
            yield value

    return fixture


async def _simulator_in_loop(request: pytest.FixtureRequest) -> "AsyncIterator[Simulator | None]":
    """Serve a simulator from a loop with virtual time: both ends of a connection must be in that loop."""
    if not _time_is_virtual():
        yield None
        return
    async with _simulator(request, now=_loop_time()) as simulator:
        yield simulator


async def _client_in_loop(request: pytest.FixtureRequest) -> "AsyncIterator[CodatCommerce]":
    simulator: Simulator = request.getfixturevalue("codat_simulator")
    async with _virtual_client(simulator) if _time_is_virtual() else _client(simulator) as client:
        yield client


def _simulator(request: pytest.FixtureRequest, **options: object) -> "Simulator":
    from codat_commerce_async.simulator import Simulator  # noqa: PLC0415 - see above

    mark = request.node.get_closest_marker(_MARK)
    return Simulator(**{**options, **(mark.kwargs if mark else {})})


def _client(simulator: "Simulator", transport: "InMemoryTransport | None" = None) -> "CodatCommerce":
    from codat_commerce_async import CodatCommerce, PollPolicy, Quota, RetryPolicy  # noqa: PLC0415 - see above

    return CodatCommerce(
        simulator.api_key,
        base_url=simulator.url,
        retry=RetryPolicy(initial_backoff=0.01, max_backoff=0.1),
        poll=PollPolicy(initial_delay=0.01, interval=0.02, max_interval=0.1),
        quota=Quota.unlimited(),
        wall_clock=_real_time(),
        transport=transport,
    )


def _client_without_connections(simulator: "Simulator") -> "CodatCommerce":
    from codat_commerce_async.simulator.in_memory import InMemoryTransport  # noqa: PLC0415 - see above

    return _client(simulator, InMemoryTransport(simulator, api_key=simulator.api_key))


def _virtual_client(simulator: "Simulator") -> "CodatCommerce":
    from codat_commerce_async import CodatCommerce  # noqa: PLC0415 - see above

    rng = Random(0)  # noqa: S311 - repeatable, no secret
    return CodatCommerce(simulator.api_key, base_url=simulator.url, wall_clock=simulator.now, random=rng)


def _real_time() -> "Callable[[], float]":
    """Return a clock that starts at noon and follows real time."""
    from time import monotonic  # noqa: PLC0415 - the only use

    started = monotonic()
    return lambda: _NOON + monotonic() - started


def _loop_time() -> "Callable[[], float]":
    """Return a clock that starts at noon and follows the running loop."""
    from asyncio import get_running_loop  # noqa: PLC0415 - see above

    from codat_commerce_async.simulator.virtual_time import loop_wall_clock  # noqa: PLC0415 - see above

    return loop_wall_clock(_NOON - get_running_loop().time())


def _time_is_virtual() -> bool:
    from asyncio import get_running_loop  # noqa: PLC0415 - see above

    from codat_commerce_async.simulator.virtual_time import VirtualTimeLoop  # noqa: PLC0415 - see above

    return isinstance(get_running_loop(), VirtualTimeLoop)
