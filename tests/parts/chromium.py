"""Headless Chromium: a page's DOM after its scripts ran, its console, and a screenshot.
Invariant: every call has a fresh profile, opens no connection but the page's own, and leaves no process behind."""

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from parts.part import PartError
from parts.process import Process

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)
_CONSOLE = re.compile(r'CONSOLE[^\]]*\] "(.*)", source: ')


@dataclass(frozen=True)
class Page:
    """What a visit saw: the DOM as HTML, and what scripts and the browser wrote to the console, in order."""

    dom: str
    console: tuple[str, ...]


@dataclass(frozen=True)
class _Output:
    out: str
    err: str


class Chromium:
    """The browser; each call is one visit of one process."""

    @staticmethod
    def missing() -> str | None:
        return None if _program() else "Chromium is not on the PATH (apt-get install chromium)"

    def visit(self, url: str, *, script_ms: int = 2000, seconds: float = 60.0) -> Page:
        """Load a page, let its scripts run for `script_ms` of the page's own time, and read it.

        The page's time jumps over idle waits but stands still while a request is open, so a page that holds one open
        (an event stream) runs into `seconds` of real time: PartError.
        """
        output = self._run(url, ["--dump-dom"], script_ms, seconds)
        return Page(output.out, tuple(_CONSOLE.findall(output.err)))

    def screenshot(
        self,
        url: str,
        file: Path,
        *,
        width: int = 1280,
        height: int = 900,
        script_ms: int = 2000,
        seconds: float = 60.0,
    ) -> Path:
        """Write the page as a PNG of `width` x `height` pixels and return its path."""
        flags = [f"--screenshot={file.absolute()}", f"--window-size={width},{height}", "--force-device-scale-factor=1"]
        output = self._run(url, flags, script_ms, seconds)
        if not file.exists():
            raise PartError(f"chromium wrote no screenshot of {url}:\n{output.err[-2000:]}")
        return file

    def _run(self, url: str, flags: list[str], script_ms: int, seconds: float) -> _Output:
        with tempfile.TemporaryDirectory(prefix="gauntlet-chromium-") as name:
            folder = Path(name)
            command = [_program() or _PROGRAMS[0], *_FLAGS, f"--user-data-dir={folder / 'profile'}"]
            command += [f"--virtual-time-budget={script_ms}", *flags, url]
            with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
                process = Process(command, folder=folder, out=out, err=err)
                try:
                    in_time = process.wait(seconds)
                finally:
                    process.end()
            output = _Output((folder / "out").read_text(), (folder / "err").read_text(errors="replace"))
        if not in_time:
            raise PartError(f"chromium didn't finish {url} within {seconds:.0f} s:\n{output.err[-2000:]}")
        if process.code != 0:
            raise PartError(f"chromium ended with code {process.code} on {url}:\n{output.err[-2000:]}")
        return output


def _program() -> str | None:
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)
