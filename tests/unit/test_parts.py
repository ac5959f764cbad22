"""The life that every real part shares, shown on a server of a few lines; and what GAUNTLET_REQUIRE accepts."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import parts
import pytest
from parts.part import PortTakenError

# Answers each connection with its process id. One child stays in its group, the other one leaves for its own session.
SERVER = """
import os, socket, subprocess, sys
subprocess.Popen(["sleep", "600"])
escaped = subprocess.Popen(["sleep", "600"], start_new_session=True)
print("escaped:", escaped.pid, flush=True)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        with server.accept()[0] as connection:
            connection.sendall(b"%d" % os.getpid())
"""


class Tiny(parts.Part):
    name: ClassVar[str] = "tiny"
    script: ClassVar[str] = SERVER

    def _command(self) -> list[str]:
        return [sys.executable, "-c", self.script, str(self.port)]

    def _answers(self) -> bool:
        return self.ask(seconds=0.2) != 0

    def ask(self, seconds: float = 20.0) -> int:
        """The server's process id."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            return int(connection.recv(64) or b"0")


def group(leader: int) -> list[int]:
    """The live processes (zombies don't count) of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # it ended while we looked
        if int(pgrp) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def eventually(true: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_nothing_is_left_after_the_block_even_when_it_fails() -> None:
    tiny = Tiny()

    def fail_inside() -> None:
        with tiny:
            escaped = int(tiny.log_tail().removeprefix("escaped: "))
            leaders.extend((tiny.pid, escaped))
            (tiny.folder / "data").mkdir()
            assert len(group(tiny.pid)) == 2  # the server and one child
            assert len(group(escaped)) == 1
            raise ZeroDivisionError

    leaders: list[int] = []
    with pytest.raises(ZeroDivisionError):
        fail_inside()
    folder = tiny.folder
    assert [group(leader) for leader in leaders] == [[], []]
    assert [entry.name for entry in folder.iterdir()] == ["log"]  # kept because the block failed
    assert "escaped" in tiny.log_tail()
    tiny.log.unlink()
    folder.rmdir()


def test_the_folder_goes_too_when_the_block_succeeds() -> None:
    with Tiny() as tiny:
        folder = tiny.folder
    assert not folder.exists()


@pytest.mark.parametrize("crash", [False, True])
def test_an_outage_ends_with_a_new_process_on_the_same_port(crash: bool) -> None:
    with Tiny() as tiny:
        port, before = tiny.port, tiny.ask()
        with tiny.outage(crash=crash):
            assert not tiny.running
            with pytest.raises(ConnectionRefusedError):
                tiny.ask()
        assert tiny.port == port
        assert tiny.ask() not in (0, before)


def test_an_outage_is_over_even_when_its_test_fails() -> None:
    with Tiny() as tiny:
        with pytest.raises(ZeroDivisionError), tiny.outage():
            raise ZeroDivisionError
        assert tiny.ask()


def test_frozen_hangs_without_refusing() -> None:
    with Tiny() as tiny:
        with tiny.frozen(), pytest.raises(TimeoutError):
            tiny.ask(seconds=0.2)
        assert tiny.ask()


def test_a_killed_owner_takes_its_parts_along() -> None:
    owner = f"""
import sys, time
sys.path[:0] = {[str(Path(__file__).parent), str(Path(parts.__file__).parents[1])]!r}
from test_parts import Tiny
with Tiny() as tiny:
    print(tiny.pid, tiny.folder, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        assert len(group(int(pid))) == 2
        process.send_signal(signal.SIGKILL)
    assert eventually(lambda: not group(int(pid)))
    shutil.rmtree(folder)


def test_a_server_that_dies_at_once_is_reported_with_its_log() -> None:
    class Broken(Tiny):
        script = "raise SystemExit('no such setting: x')"

    with pytest.raises(parts.PartError, match=r"(?s)tiny ended with code 1 .*no such setting: x") as caught, Broken():
        pass
    remove_log(caught.value)


def test_a_server_that_never_answers_is_reported_and_ended() -> None:
    class Mute(Tiny):
        script = "import time; print('warming up', flush=True); time.sleep(600)"
        ready_seconds = 1.0

    mute = Mute()
    with pytest.raises(parts.PartError, match=r"(?s)didn't answer within 1 s.*warming up") as caught, mute:
        pass
    assert not mute.running
    remove_log(caught.value)


def test_a_server_deaf_to_the_stop_is_reported_and_killed() -> None:
    class Deaf(Tiny):
        script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + SERVER
        stop_seconds = 0.5

    with Deaf() as deaf:
        leader = deaf.pid
        with pytest.raises(parts.PartError, match="was killed") as caught:
            deaf.stop()
        assert not group(leader)
    remove_log(caught.value)


def test_a_taken_port_leads_to_another_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]

        class Unlucky(Tiny):
            draws: ClassVar[list[int]] = [taken, taken]

            def _choose_ports(self) -> None:
                self.port = self.draws.pop() if self.draws else parts.free_port()

        with Unlucky() as tiny:
            assert tiny.port != taken
            assert tiny.ask()
        assert not tiny.folder.exists()  # a draw lost to a stranger is not a failure

        Unlucky.draws += [taken] * 100
        with pytest.raises(PortTakenError) as caught, Unlucky():
            pass
        remove_log(caught.value)


def remove_log(error: BaseException) -> None:
    """A failed part keeps its log for a person to read; these failures were ordered."""
    log = Path(str(error).split("the end of ")[1].split(":\n")[0])
    log.unlink()
    log.parent.rmdir()


def test_free_ports_can_be_bound_and_lie_below_the_ephemeral_range() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(50):
        with socket.create_server(("127.0.0.1", parts.free_port())) as server:
            assert 1024 < server.getsockname()[1] < lowest


def test_a_bound_port_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr("parts.port.LOWEST", port)
        monkeypatch.setattr("parts.port.HIGHEST", port)
        with pytest.raises(OSError, match="no free port"):
            parts.free_port()


def test_the_required_parts_are_read_from_the_environment() -> None:
    assert parts.required({}) == frozenset()
    assert parts.required({"GAUNTLET_REQUIRE": " kafka, redis,"}) == {"kafka", "redis"}
    assert parts.required({"GAUNTLET_REQUIRE": ",".join(parts.NAMES)}) == parts.NAMES


def test_an_unknown_required_part_is_refused() -> None:
    with pytest.raises(ValueError, match=r"names \['kafak'\]; known are"):
        parts.required({"GAUNTLET_REQUIRE": "kafak,redis"})


ASKS_FOR_REDIS = "def test_it(redis_server):\n    assert redis_server.running\n"


@pytest.mark.parametrize(
    ("require", "code", "message"),
    [
        ("", 0, "1 skipped"),
        ("kafka", 0, "1 skipped"),
        ("redis", 1, "GAUNTLET_REQUIRE names redis, but: redis-server is not on the PATH"),
        ("rdis", 4, "GAUNTLET_REQUIRE names ['rdis']"),
    ],
)
def test_a_missing_part_skips_unless_it_is_required(
    tmp_path_factory: pytest.TempPathFactory, require: str, code: int, message: str
) -> None:
    folder = tmp_path_factory.mktemp("asks")
    conftest = Path(parts.__file__).parents[1] / "conftest.py"
    (folder / "conftest.py").write_text(conftest.read_text())
    (folder / "test_it.py").write_text(ASKS_FOR_REDIS)
    environment = {"PATH": str(folder), "PYTHONPATH": str(conftest.parent), "GAUNTLET_REQUIRE": require}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rs",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        str(folder),
    ]
    done = subprocess.run([*command, str(folder)], env=environment, capture_output=True, text=True)
    assert (done.returncode, message in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr
