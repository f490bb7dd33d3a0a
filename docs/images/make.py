"""Make the picture of the README: the simulator's page during a run, taken by headless Chromium."""

import asyncio
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from codat_commerce_async import CodatCommerce
from codat_commerce_async.simulator import ScriptedSync, Simulator

PICTURE = Path(__file__).with_name("simulator.png")
COMPANIES = ("Alder Bakery", "Birch Books", "Cedar Cycles", "Elm Garden", "Fir & Sons", "Hazel Home", "Larch Music")


def screenshot(browser: str, url: str, path: Path) -> None:
    """Save a picture of a page; the simulator keeps running while the browser draws."""
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1180,900", "--timeout=2500"]
        command = [browser, *flags, f"--user-data-dir={profile}", f"--screenshot={path}", url]
        subprocess.run(command, check=True, capture_output=True, timeout=60)  # noqa: S603 - the browser that was found


async def main() -> None:
    """Run syncs of a few companies, and take the picture in the middle."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("Chromium is needed to take the picture")
    async with Simulator(seed=4, speed=20) as simulator:
        ids = [simulator.add_linked_company(name) for name in COMPANIES]
        simulator.script_sync(ids[1], ScriptedSync(5130, duration=20, message="No such tax rate."))
        for number, company_id in enumerate(ids[3:]):
            simulator.script_sync(company_id, ScriptedSync(2000, duration=200.0 + 60 * number))
        async with CodatCommerce(simulator.api_key, base_url=simulator.url) as codat:
            run = codat.sync.run_many(ids)
            async with run:
                await asyncio.sleep(4.0)
                await asyncio.to_thread(screenshot, browser, simulator.url, PICTURE)


if __name__ == "__main__":
    asyncio.run(main())
