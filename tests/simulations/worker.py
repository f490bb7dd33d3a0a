"""A process that starts syncs and keeps a journal, or waits for one, and may be killed at any moment.

`worker.py start URL SPEED JOURNAL COMPANY...` or `worker.py wait URL SPEED HANDLE`; a clock that runs SPEED times as
fast as the real one makes the pauses short.
"""

import asyncio
import json
import selectors
import sys
import time
from pathlib import Path
from uuid import uuid4

from codat_commerce_async import CodatCommerce
from codat_commerce_async.errors import CodatError
from codat_commerce_async.models.handle import SyncHandle


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock runs faster than the real one."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        super().__init__(_FastSelector(speed))

    def time(self) -> float:
        return super().time() * self._speed


class _FastSelector(selectors.DefaultSelector):
    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / self._speed if timeout is not None and timeout > 0 else timeout)


class Journal:
    """Lines of JSON: the key before it is used, and the result."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.keys: dict[str, str] = {}
        self.done: set[str] = set()
        for line in path.read_text().splitlines() if path.exists() else ():
            entry = json.loads(line)
            if "key" in entry:
                self.keys[entry["company"]] = entry["key"]
            else:
                self.done.add(entry["company"])

    def record(self, company_id: str, **fields: str | None) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"company": company_id, **fields}) + "\n")


async def start_all(codat: CodatCommerce, journal: Journal, company_ids: list[str]) -> None:
    """Start what the journal does not know to be started, under the key that it knows."""

    async def start(company_id: str) -> None:
        if company_id not in journal.keys:
            journal.keys[company_id] = str(uuid4())
            journal.record(company_id, key=journal.keys[company_id])
        try:
            handle = await codat.sync.start(company_id, idempotency_key=journal.keys[company_id])
        except CodatError as error:
            journal.record(company_id, error=type(error).__name__, named=error.idempotency_key, message=str(error))
        else:
            journal.record(company_id, handle=handle.to_json())

    await asyncio.gather(*(start(company_id) for company_id in company_ids if company_id not in journal.done))


async def main(mode: str, url: str, speed: float, *rest: str) -> None:
    began = time.time()
    async with CodatCommerce(
        "simulator-key", base_url=url, wall_clock=lambda: began + (time.time() - began) * speed
    ) as codat:
        print("ready", flush=True)  # noqa: T201 - the parent process waits for this line
        if mode == "start":
            await start_all(codat, Journal(Path(rest[0])), list(rest[1:]))
        else:
            async for status in codat.sync.watch(SyncHandle.from_json(rest[0])):
                print(status.sync_status_code, status.sync_id, flush=True)  # noqa: T201 - likewise


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=lambda: FastLoop(float(sys.argv[3]))) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), *sys.argv[4:]))
