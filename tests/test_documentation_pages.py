"""The pages of the built documentation fit a desktop and a phone, and request nothing from other hosts."""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.browser import Page, chromium, open_page, running
from tests.test_docstrings import CLASSES, PACKAGE, PUBLIC, methods

ROOT = Path(__file__).parents[1]
# A site that was built before, so that the tests need no MkDocs.
SITE = "CODAT_TEST_SITE"
PHONE, DESKTOP = (390, 844), (1280, 900)
LOADED = "new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', () => done()))"
OTHER_HOSTS = """[...new Set(performance.getEntriesByType("resource").map((one) => new URL(one.name).host))]
    .filter((host) => host !== location.host)"""
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if built := os.environ.get(SITE):
        return Path(built)
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip(f"MkDocs is not installed: pip install '.[docs]', or set {SITE} to a built site")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})  # noqa: S603
    return folder


@pytest.fixture
async def missing() -> list[str]:
    """Return the paths that were requested and do not exist."""
    return []


@pytest.fixture
async def server(site: Path, missing: list[str]) -> AsyncIterator[TestServer]:
    async def serve(request: web.Request) -> web.StreamResponse:
        path = site / request.path.lstrip("/")
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            missing.append(request.path)
            raise web.HTTPNotFound
        return web.FileResponse(path)

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    server = TestServer(app)
    async with server:
        yield server


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    program = chromium()
    # Chromium makes a socket below its profile, whose path must be short.
    with tempfile.TemporaryDirectory() as profile, running(program, Path(profile)) as address:
        async with open_page(address) as page:
            yield page


def paths(site: Path) -> list[str]:
    """Return the paths of all pages, except that of an error."""
    found = sorted(str(path.parent.relative_to(site)) for path in site.rglob("index.html"))
    return ["/" if path == "." else f"/{path}/" for path in found]


async def test_every_page_fits_its_screen_and_needs_no_other_host(
    site: Path, server: TestServer, page: Page, missing: list[str]
) -> None:
    assert len(paths(site)) > 40
    wrong = []
    # What fits a phone usually fits a desktop, so every fourth page is enough there.
    for (width, height), chosen in ((PHONE, paths(site)), (DESKTOP, paths(site)[::4])):
        await page.emulate(width, height)
        for path in chosen:
            await page.go(str(server.make_url(path)))
            await page.evaluate(LOADED)
            overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if overflow > 0:
                wrong.append(f"{path} is {overflow} pixels too wide for {width}")
            if hosts := await page.evaluate(OTHER_HOSTS):
                wrong.append(f"{path} requests {hosts}")
    assert wrong == []
    assert missing == []
    assert page.complaints == []


def test_every_public_name_and_method_is_in_the_reference(site: Path) -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").rglob("index.html"))
    # A package shows a name under its own path, where it re-exports it.
    found = {tuple(one.split(".")[-2:]) for one in re.findall(rf'id="({PACKAGE}[\w.]+)"', pages)}
    names = {name for _, name in found}
    assert [node.name for node in PUBLIC.values() if node.name not in names] == []
    listed = [(node.name, method.name) for node in CLASSES.values() for method in methods(node)]
    assert [each for each in listed if each not in found] == []
