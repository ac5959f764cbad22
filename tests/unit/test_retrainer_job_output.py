"""What a job prints is on disk as it is shown: without secrets, for its owner only, the newest of it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from builders import retraining_data

from retrainer.jobs.job_dir import JobFolder, Spec
from retrainer.jobs.job_output import JobOutput, attend


def written(path: Path, *parts: bytes) -> str:
    with JobOutput(path) as output:
        for part in parts:
            output.write(part)
    return path.read_text()


def test_no_secret_is_ever_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVATE_KEY", "-----BEGIN-----\nMIIabcdefgh\nijklmnopqr==")
    path = tmp_path / "output.log"
    with JobOutput(path) as output:
        output.write(b"login at postgresql://ann:pa")
        assert path.read_bytes() == b"", "a line waits for its end: a secret is not split"
        output.write(b"55@db/flights\rtoken=abcdefgh12345\n")
        assert path.read_bytes() == b"login at postgresql://***@db/flights\rtoken=***\n"
        output.write(b"MIIabcdefgh\nijklmnopqr==\n")
        output.write(b"the last word has no end: password=hunter22")
    assert path.read_text().splitlines()[-3:] == ["***", "***", "the last word has no end: password=***"]


def test_a_line_without_an_end_is_cut_between_words(tmp_path: Path) -> None:
    text = written(tmp_path / "output.log", b"word " * 20_000, b"token=abcdefgh", b"12345 " + b"x" * 70_000)
    assert text.startswith("word word")
    assert "token=*** xxx" in text
    assert len(text) == 5 * 20_000 + len("token=*** ") + 70_000


def test_the_newest_output_is_kept(tmp_path: Path) -> None:
    line = b"%08d " + b"." * 90 + b"\n"
    text = written(tmp_path / "output.log", *(line % number for number in range(60_000)))
    assert text.startswith("[earlier output is dropped]\n")
    assert text.endswith((line % 59_999).decode())
    assert 2 * 2**20 <= len(text) <= 4 * 2**20
    kept = text.splitlines()[2:]
    assert len(kept) == int(kept[-1][:8]) - int(kept[0][:8]) + 1, "nothing of what is newer is lost"


def test_only_its_owner_reads_what_a_job_keeps(tmp_path: Path) -> None:
    """The specification holds the addresses of the log and the state, which may have passwords."""
    folder = JobFolder(tmp_path / "job")
    config = retraining_data.configuration(tmp_path)
    folder.prepare(Spec(job="job", champion="v0001", now=0.0, ends={}, config=config))
    folder.report("training", 1, 4)
    written(folder.output, b"hello\n")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()}
    assert modes == dict.fromkeys(("spec.json", "step.json", "output.log"), 0o600)


@pytest.mark.parametrize("leaves", [False, True])
def test_a_process_is_attended_to_its_end(tmp_path: Path, leaves: bool) -> None:
    """One that prints a lot and ends; and one that leaves behind a process which holds its output open."""
    printed, printing = os.pipe()
    waiting, done = os.pipe()
    script = (
        "import os\nif {leaves} and not os.fork():\n    os.read({waiting}, 1), os._exit(0)\n"  # until the test is over
    )
    script += "print('line\\n' * 100_000, end='', flush=True); os._exit(3)"
    words = [sys.executable, "-c", script.format(leaves=leaves, waiting=waiting)]
    child = subprocess.Popen(words, stdout=printing, pass_fds=[waiting])
    os.close(printing)
    os.close(waiting)
    with JobOutput(tmp_path / "output.log") as output:
        child.returncode = attend(child.pid, printed, output)
    assert child.returncode == 3
    os.close(done)
    os.close(printed)
    assert (tmp_path / "output.log").read_bytes() == b"line\n" * 100_000
