"""The pytest plugin: a simulated Codat and a client of it, made anew for each test that asks for them.

There is nothing to rewrite in it, and no use in a warning that it is too late for that: PYTEST_DONT_REWRITE
"""

from collections.abc import AsyncIterator
from random import Random
from typing import TYPE_CHECKING

import pytest

# Every test run of whoever has this package installed loads this module: the rest is imported by who needs it.
if TYPE_CHECKING:
    from codat_commerce_async.client import CodatCommerce
    from codat_commerce_async.simulator import Simulator

__all__ = ["pytest_configure"]

_MARK = "codat_simulator"
_SPEED = 100.0
_RUNNERS = ("asyncio", "pytest_asyncio", "pytest_asyncio.plugin")


def pytest_configure(config: pytest.Config) -> None:
    """Announce the mark, and the fixtures `codat_simulator` and `codat`."""
    config.addinivalue_line("markers", f"{_MARK}(**options): what this test's simulated Codat is made with")
    served = any(config.pluginmanager.hasplugin(name) for name in _RUNNERS)
    config.pluginmanager.register(_fixtures() if served else _Excuses(), f"{__name__} fixtures")


def _fixtures() -> object:
    # pytest-asyncio runs only fixtures of its own making in both of its modes.
    import pytest_asyncio  # noqa: PLC0415 - see above

    class Fixtures:
        @pytest_asyncio.fixture
        async def codat_simulator(
            self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
        ) -> AsyncIterator["Simulator"]:
            """A simulated Codat of the test's own, served on loopback; CODAT_API_KEY and CODAT_BASE_URL lead to it.

            Its time runs a hundred times as fast as ours; on a `VirtualTimeLoop` it is the loop's. What
            `@pytest.mark.codat_simulator(...)` is given, it is made with: the arguments of `Simulator`.
            """
            if not pytest_asyncio.is_async_test(request.node):
                pytest.fail("codat_simulator is served by the test's own event loop: write `async def`", pytrace=False)
            async with _simulator(request.node.get_closest_marker(_MARK)) as simulator:
                monkeypatch.setenv("CODAT_API_KEY", simulator.api_key)
                monkeypatch.setenv("CODAT_BASE_URL", simulator.url)
                yield simulator

        @pytest_asyncio.fixture
        async def codat(self, codat_simulator: "Simulator") -> AsyncIterator["CodatCommerce"]:
            """An open client of the test's simulated Codat; its pauses are short, or virtual."""
            async with _client(codat_simulator) as client:
                yield client

    return Fixtures()


class _Excuses:
    @pytest.fixture
    def codat_simulator(self) -> None:
        """Not there without pytest-asyncio."""
        pytest.fail("codat_simulator is served by an event loop, for which it needs pytest-asyncio", pytrace=False)

    @pytest.fixture
    def codat(self, codat_simulator: None) -> None:
        """Not there without pytest-asyncio."""


def _simulator(mark: pytest.Mark | None) -> "Simulator":
    from codat_commerce_async.simulator import Simulator  # noqa: PLC0415 - see above
    from codat_commerce_async.simulator.virtual_time import loop_wall_clock  # noqa: PLC0415 - see above

    timing = {"now": loop_wall_clock()} if _time_is_virtual() else {"speed": _SPEED}
    return Simulator(**{**timing, **(mark.kwargs if mark else {})})


def _client(simulator: "Simulator") -> "CodatCommerce":
    from codat_commerce_async import CodatCommerce, PollPolicy, Quota, RetryPolicy  # noqa: PLC0415 - see above

    key, url = simulator.api_key, simulator.url
    if _time_is_virtual():
        chance = Random(0)  # noqa: S311 - repeatable chance, no secret
        return CodatCommerce(key, base_url=url, wall_clock=simulator.now, random=chance)
    return CodatCommerce(
        key,
        base_url=url,
        retry=RetryPolicy(initial_backoff=0.01, max_backoff=0.1),
        poll=PollPolicy(initial_delay=0.01, interval=0.02, max_interval=0.1),
        quota=Quota.unlimited(),
    )


def _time_is_virtual() -> bool:
    from asyncio import get_running_loop  # noqa: PLC0415 - see above

    from codat_commerce_async.simulator.virtual_time import VirtualTimeLoop  # noqa: PLC0415 - see above

    return isinstance(get_running_loop(), VirtualTimeLoop)
