"""A headless Chromium, driven over its DevTools protocol: pages as they are drawn, clicked, scrolled and photographed."""

from __future__ import annotations

import asyncio
import base64
import itertools
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
_SECONDS = 60.0


class Page:
    """One tab."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse):
        self._loop, self._socket, self._numbers = loop, socket, itertools.count(1)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol; its answer."""
        return self._loop.run_until_complete(self._call(method, params))

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            answer = await self._socket.receive_json(timeout=_SECONDS)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]  # type: ignore[no-any-return]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, address: str) -> None:
        """Go to an address; a hash alone does not load anew, so an empty page comes between."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)

    @property
    def text(self) -> str:
        """What is written on the page, pictures' labels included."""
        return str(self.run("(document.body ? document.body.textContent : '').replace(/\\s+/g, ' ')"))

    def wait_for(self, *words: str) -> str:
        """The page's text once all words are in it."""
        end = time.monotonic() + _SECONDS
        while True:
            text = self.text
            missing = [word for word in words if word not in text]
            if not missing:
                return text
            assert time.monotonic() < end, f"never seen: {missing}; the page says {text[:3000]}"
            time.sleep(0.3)

    def click(self, selector: str, words: str = "") -> None:
        """Press the mouse on the middle of the last element that a selector finds, with these words on it where any are given."""
        found = f"[...document.querySelectorAll({selector!r})].filter(e => e.textContent.includes({words!r})).pop()"
        box = self.run(
            f"(() => {{const e = {found}; if (!e) return null; e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        assert box, f"nothing to click: {selector} {words}"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def insert(self, words: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=words)

    def choose(self, words: str) -> None:
        """Type into a list that is open, and press Enter."""
        self.insert(words)
        time.sleep(0.5)
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13)

    def scroll_through(self) -> str:
        """The texts of all that is drawn on the way from the top to the bottom of whatever scrolls."""
        seen = ""
        for place in range(60):
            seen += self.text
            moved = self.run(
                "[...document.querySelectorAll('*')].filter(e => e.scrollHeight > e.clientHeight + 40 && e.clientHeight > 300)"
                f".map(e => {{e.scrollTop = {place + 1} * 400; return e.scrollTop >= {place} * 400}}).some(Boolean)"
            )
            time.sleep(0.3)
            if not moved:
                break
        return seen + self.text

    def photograph(self, path: Path) -> None:
        """Keep what is seen as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browser(executable: str, width: int = 1800, height: int = 1000) -> Iterator[Page]:
    """A Chromium with one empty tab, gone at the end."""
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [executable, *OPTIONS, f"--window-size={width},{height}", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [*command, "--remote-debugging-port=0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        note = Path(profile) / "DevToolsActivePort"
        end = time.monotonic() + _SECONDS
        while not (note.is_file() and note.read_text().count("\n")):
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(0.1)
        session = loop.run_until_complete(_session())
        try:
            yield Page(loop, loop.run_until_complete(_tab(session, int(note.read_text().split("\n")[0]))))
        finally:
            loop.run_until_complete(session.close())
            process.terminate()
            process.wait(20)
            loop.close()


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


async def _tab(session: aiohttp.ClientSession, port: int) -> aiohttp.ClientWebSocketResponse:
    async with session.put(f"http://127.0.0.1:{port}/json/new") as answer:
        address = (await answer.json())["webSocketDebuggerUrl"]
    return await session.ws_connect(address, max_msg_size=0)
