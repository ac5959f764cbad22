"""The demo on a full disk: one line with the folder, the cause and the remedy, and exit code 2; no wait for ever."""

from __future__ import annotations

import argparse
import errno
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from builders.operator_status import CONFIG

from gauntlet.cli.demo import run as demo
from gauntlet.cli.demo.flights import YEAR_START
from gauntlet.cli.demo.replay import Replay
from gauntlet.errors import BadInput

PROBLEM = {"code": "events_not_recorded", "text": "the disk is full: x", "remedy": "free space on the disk"}


class Router(BaseHTTPRequestHandler):
    """Answers predictions that it can't record."""

    def _answer(self, body: Any, *headers: tuple[str, str]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        for name, value in (("content-length", str(len(data))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer({"predictions": []}, ("x-gauntlet-recorded", "no"))

    def do_GET(self) -> None:
        self._answer({"problems": [PROBLEM]})

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Router)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield server.server_port
    server.shutdown()
    serving.join()
    server.server_close()


async def test_a_run_whose_events_are_lost_ends_with_the_routers_reason(port: int, tmp_path: Path) -> None:
    flights: Any = SimpleNamespace(
        departure=np.array([YEAR_START + 1.0]), arrival=np.array([np.nan]), key=["f"], rows=lambda *_: [{}]
    )
    (tmp_path / "data").mkdir()
    config = msgspec.structs.replace(CONFIG, data=str(tmp_path / "data"))
    with pytest.raises(BadInput, match=r"--run .*: the disk is full: x: free space on the disk; then start the demo"):
        await Replay(config, flights, tmp_path, port, 1, ()).run()


def test_a_run_that_can_not_begin_on_a_full_disk_names_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(demo, "fresh", full)
    arguments = argparse.Namespace(folder=str(tmp_path / "demo"), days=1, log="local", state="local", hold=False)
    with pytest.raises(BadInput, match=r"--run .*demo: No space left on device: free space on its disk"):
        demo.run(arguments)
