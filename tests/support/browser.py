"""A headless Chromium, driven through its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/"""

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

__all__ = ["Page", "chromium", "open_page", "running"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
)
_LISTENING = "DevTools listening on "
_LARGEST_MESSAGE = 64 * 1024 * 1024
_TIMEOUT = 30.0
_KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "ArrowRight": (39, ""), " ": (32, " ")}

# The ratio of WCAG 2.2 between each text and what is painted behind it:
# https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
_CONTRASTS = """(() => {
  const paint = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = paint(getComputedStyle(one).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    throw new Error("nothing is painted");
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || !one.checkVisibility() || one.closest(".unseen")) continue;
    const [a, b] = [light(paint(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), texts.currentNode.textContent.trim()]);
  }
  return found;
})()"""


def chromium() -> str:
    """Return where Chromium is; skip the test if it is not installed."""
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    return program


@contextmanager
def running(program: str, profile: Path) -> Iterator[str]:
    """The address at which a browser of our own, with an empty profile, takes orders."""
    command = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with (
        # It is killed, and so leaves its temporary files. Among them is a socket, whose path must be short.
        tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as temporary,
        subprocess.Popen(  # noqa: S603 - the flags stand above
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "TMPDIR": temporary},
        ) as browser,
    ):
        assert browser.stderr is not None
        try:
            lines = []
            for line in browser.stderr:
                lines.append(line)
                if line.startswith(_LISTENING):
                    break
            else:
                raise RuntimeError(f"Chromium did not start: {''.join(lines)}")
            yield line.removeprefix(_LISTENING).strip()
        finally:
            # Its helpers are in its own group, as it began a session.
            os.killpg(browser.pid, signal.SIGKILL)


class Page:
    """One tab; `complaints` is what its console shows."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: str | None = None

    async def attach(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            await self.call(f"{domain}.enable")

    async def call(self, method: str, **parameters: Any) -> Any:
        """Send one command and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message if self._session is None else {**message, "sessionId": self._session})
        while True:
            response = json.loads(await self._socket.receive_str(timeout=_TIMEOUT))
            if response.get("id") == number:
                assert "error" not in response, response
                return response["result"]
            self._handle_event(response)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        response = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in response, response
        return response["result"].get("value")

    async def emulate(self, width: int, height: int, scheme: str = "light") -> None:
        """Become a screen of this size, in a light or dark scheme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def until(self, condition: str) -> None:
        """Wait until a JavaScript condition holds; it is checked whenever the document changes."""
        await self.evaluate(
            "new Promise((resolve, reject) => {"
            f"const holds = () => {{ try {{ return {condition} }} catch {{ return false }} }};"
            "if (holds()) return resolve();"
            "const watching = new MutationObserver(() => { if (holds()) { watching.disconnect(); resolve(); } });"
            "watching.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});"
            f"setTimeout(() => reject(new Error({json.dumps(condition)})), 10000); }})"
        )

    async def text(self) -> str:
        """All that a reader sees."""
        found = await self.evaluate("document.body.innerText")
        assert isinstance(found, str)
        return found

    async def contrasts(self) -> list[tuple[float, str]]:
        """The contrast of each visible text with what is behind it, and the text."""
        return [(ratio, text) for ratio, text in await self.evaluate(_CONTRASTS)]

    async def press(self, *keys: str) -> None:
        """Press keys, as from a keyboard."""
        for key in keys:
            code, text = _KEYS[key]
            typed = {"text": text} if text else {}
            for kind in ("keyDown", "keyUp"):
                await self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed)

    async def screenshot(self) -> bytes:
        """The whole page as a PNG."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def _handle_event(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event["method"]:
            case "Log.entryAdded" if parameters["entry"]["level"] != "verbose":
                self.complaints.append(parameters["entry"]["text"])
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(parameters["args"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(str(parameters["exceptionDetails"]))


@asynccontextmanager
async def open_page(address: str) -> AsyncIterator[Page]:
    """A new tab of the browser at this address."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address, max_msg_size=_LARGEST_MESSAGE) as socket,
    ):
        page = Page(socket)
        await page.attach()
        yield page
