"""A headless Chromium for tests, driven over a pipe by the DevTools protocol: nothing but the browser is needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required", "--window-size=1360,900",
)  # fmt: skip


def find_browser() -> str | None:
    """Path of a browser, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """Context manager: one page of a browser that ends with it.

    Attributes:
        asked: addresses of all that the page has asked for.
        said: lines of its console, and errors that nobody caught.
    """

    def __init__(self, profile: Path) -> None:
        self._profile = profile
        self._number = 0
        self.asked: list[str] = []
        self.said: list[str] = []

    def __enter__(self) -> Browser:
        their_read, our_write = os.pipe()
        our_read, their_write = os.pipe()

        def at_three_and_four() -> None:  # where Chromium looks for its pipe
            reading, writing = os.dup(their_read), os.dup(their_write)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        command = [find_browser(), *_OPTIONS, f"--user-data-dir={self._profile}", "about:blank"]
        with (self._profile.parent / "browser.log").open("w") as log:
            self._process = subprocess.Popen(
                command, preexec_fn=at_three_and_four, pass_fds=(3, 4), stdout=log, stderr=log
            )
        os.close(their_read)
        os.close(their_write)
        self._read, self._write = os.fdopen(our_read, "rb", 0), os.fdopen(our_write, "wb", 0)
        self._rest = b""
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "DOM", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._read.close()
        self._write.close()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser, and wait for its answer."""
        self._number += 1
        number = self._number
        question: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            question["sessionId"] = self._session
        self._write.write(json.dumps(question).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = self._read.read(2**16)
            assert piece, "the browser has ended"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        params = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        if message.get("method") == "Runtime.exceptionThrown":
            self.said.append(json.dumps(params["exceptionDetails"])[:500])
        return message

    def go(self, address: str) -> None:
        """Open a page."""
        self.call("Page.navigate", url=address)

    def js(self, expression: str) -> Any:
        """Value of a JavaScript expression; promises are waited for."""
        told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait(self, expression: str, seconds: float = 60.0) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        deadline = time.monotonic() + seconds
        while not (value := self.js(expression)):
            assert time.monotonic() < deadline, f"{expression}\n{self.js('document.body.innerText')}\n{self.said}"
            time.sleep(0.1)
        return value

    def give(self, selector: str, file: Path) -> None:
        """Choose a file for an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        assert node, selector
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def picture(self, path: Path) -> None:
        """A screenshot as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
