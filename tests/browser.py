"""A headless Chromium that opens pages of a folder and is asked, until it answers, whether they are ready.

It is spoken to over a pipe in the DevTools protocol (https://chromedevtools.github.io/devtools-protocol): one JSON
message after the other with a zero byte between. A browser told to dump its page after some time may do so before a
module of WebAssembly is compiled on a busy machine; asked like this it takes what time it needs.
"""

from __future__ import annotations

import base64
import fcntl
import functools
import http.server
import json
import os
import select
import shutil
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: nothing opens a page here")
SECONDS = 150  # a page on a busy machine; alone none takes longer than three
OPTIONS = ["--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-sync", "--disable-background-networking", "--disable-component-update"]
OPTIONS += ["--hide-scrollbars", "--window-size=1100,900"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = {".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm"}  # noqa: RUF012

    def log_message(self, *arguments: object) -> None:
        pass


def far_pipe() -> list[int]:
    """The ends of a pipe, none of which is 3 or 4, where the browser's own will be."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved


class Browser:
    """`with Browser(folder) as browser: browser.open("page.html", until="document.body.dataset.state")`.

    complaints: what pages wrote to the console as a warning or an error, threw, or could not load, but for an icon.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.complaints: list[str] = []

    def __enter__(self) -> Browser:
        serves = functools.partial(Quiet, directory=str(self.folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serves)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        heard, self.sends = far_pipe()
        self.hears, told = far_pipe()
        self.profile = self.folder.parent / f"{self.folder.name}-chromium"
        # The browser listens at 3 and answers at 4; bash can name descriptors of two digits, sh need not.
        start = ["bash", "-c", f'exec "$@" 3<&{heard} 4>&{told} {heard}<&- {told}>&-', "bash", CHROMIUM, *OPTIONS]
        self.process = subprocess.Popen(
            [*map(str, start), f"--user-data-dir={self.profile}"], pass_fds=(heard, told), stderr=subprocess.DEVNULL
        )
        os.close(heard)
        os.close(told)
        self.count, self.pending = 0, b""
        page = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self.sends)  # the end of the pipe is the end of the browser
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.hears)
        self.server.shutdown()
        self.server.server_close()
        shutil.rmtree(self.profile, ignore_errors=True)

    def open(self, page: str, until: str) -> None:
        """Open a page of the folder and wait until an expression of JavaScript is true in it."""
        self.ask("Page.navigate", url=f"http://127.0.0.1:{self.server.server_port}/{page}")
        end = time.monotonic() + SECONDS
        while not self.evaluate(f"document.readyState == 'complete' && Boolean({until})"):
            assert time.monotonic() < end, f"{page} after {SECONDS} s: {self.complaints}\n{self.html()[:2000]}"
            time.sleep(0.02)

    def html(self) -> str:
        return self.evaluate("document.documentElement.outerHTML")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression; of a promise, what it comes to."""
        found = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def picture(self) -> bytes:
        """The page as a PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot")["data"])

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if hasattr(self, "session"):
            message["sessionId"] = self.session
        os.write(self.sends, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.hear(method)
            if answer.get("id") == self.count:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.notice(answer.get("method"), answer.get("params", {}))

    def hear(self, method: str) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self.pending:
            assert select.select([self.hears], [], [], SECONDS)[0], f"chromium says nothing to {method}"
            part = os.read(self.hears, 1 << 20)
            assert part, f"chromium ended at {method}"
            self.pending += part
        message, self.pending = self.pending.split(b"\0", 1)
        return json.loads(message)

    def notice(self, event: str | None, found: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(found["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(found["args"]))
        elif event == "Log.entryAdded" and "favicon" not in found["entry"].get("url", ""):
            self.complaints.append(found["entry"]["text"])
