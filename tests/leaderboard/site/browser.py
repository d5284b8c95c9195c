"""A headless Chromium, driven over a pair of pipes with the protocol that it speaks itself; no package is needed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = "no Chromium on this machine (Debian: apt-get install chromium); pages are not tried in a browser"
PATIENCE = 30
"""Seconds that a page has, on a machine that is busy."""
OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
)


def chromium() -> str | None:
    """Where it is; null: nowhere."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser; what it says on the console and asks of the network is kept."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = os.fdopen(reader, "rb"), os.fdopen(writer, "wb")
        self._left, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command, and what it returns."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        self._writer.flush()
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, address: str) -> None:
        """Load a page, and let it draw."""
        self.load(address)
        self.run(SETTLED)

    def load(self, address: str) -> None:
        """Load a page, also where only the part behind ``#`` is new."""
        self.events.clear()
        for one in ("about:blank", address):
            self.send("Page.navigate", url=one)
            self.wait(f"document.URL === {json.dumps(one)} && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression, a promise's when it is kept."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true; a page that is being left answers later."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            answer = self.send("Runtime.evaluate", expression=condition, returnByValue=True)
            if answer["result"].get("value") is True:
                return
            time.sleep(0.01)
        raise AssertionError(f"not true in {PATIENCE} s: {condition}")

    def press(self, key: str, text: str = "") -> None:
        """A key, down and up."""
        codes = {"Enter": 13, "Tab": 9, " ": 32}
        common = {"key": key, "windowsVirtualKeyCode": codes[key]}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def window(self, width: int, height: int = 900, scheme: str = "light", media: str = "screen") -> None:
        """The size of the window, and what the reader prefers."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)

    def complaints(self) -> list[str]:
        """Errors and warnings of the page since it was opened."""
        said = [one["params"] for one in self.events if one.get("method") == "Log.entryAdded"]
        thrown = [one for one in self.events if one.get("method") == "Runtime.exceptionThrown"]
        return [one["entry"]["text"] for one in said] + [json.dumps(one["params"]) for one in thrown]

    def requests(self) -> list[str]:
        """Every address that the page has asked for."""
        asked = [one["params"] for one in self.events if one.get("method") == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in asked]

    def close(self) -> None:
        self._session = ""
        self.send("Browser.close")
        self._reader.close()
        self._writer.close()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            more = os.read(self._reader.fileno(), 1 << 16)
            assert more, "the browser has ended"
            self._left += more
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)


SETTLED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
"""Two frames: what was begun has been drawn."""


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, for as long as the block runs."""
    theirs_in, ours_out = _pipe()
    ours_in, theirs_out = _pipe()
    actions = [(os.POSIX_SPAWN_DUP2, theirs_in, 3), (os.POSIX_SPAWN_DUP2, theirs_out, 4)]
    quiet = [(os.POSIX_SPAWN_OPEN, place, os.devnull, os.O_WRONLY, 0) for place in (1, 2)]
    arguments = [program, *OPTIONS, f"--user-data-dir={profile}"]
    process = os.posix_spawn(program, arguments, os.environ, file_actions=[*quiet, *actions])
    os.close(theirs_in)
    os.close(theirs_out)
    driven = Browser(ours_in, ours_out)
    try:
        yield driven
    finally:
        driven.close()
        os.waitpid(process, 0)


def _pipe() -> tuple[int, int]:
    """Both ends, out of the way of the numbers that the browser expects."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
