"""The README by the letter: its example is written down, trained, started, and every curl command is run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def block(language: str, containing: str) -> str:
    (found,) = [text for kind, text in BLOCKS if kind == language and containing in text]
    return found


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The README's own model, served by the README's own commands, on ports that are free."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "train.py").write_text(block("python", "# train.py"))
    ports = "router: {port: 0}\nobserve: {evaluator_port: 0, retrainer_port: 0}\n"
    (folder / "config.yaml").write_text(block("yaml", "# config.yaml") + ports)
    commands = [line.partition("#")[0].strip() for line in block("bash", "gauntlet up").splitlines() if line]
    assert commands == ["python train.py", "gauntlet check config.yaml", "gauntlet up config.yaml"]
    subprocess.run([sys.executable, "train.py"], cwd=folder, check=True)
    subprocess.run([sys.executable, "-m", "gauntlet.cli", "check", "config.yaml"], cwd=folder, check=True)
    up = subprocess.Popen([sys.executable, "-m", "gauntlet.cli", "up", "config.yaml"], cwd=folder)
    address = folder / "gauntlet-data" / "router.address"
    try:
        deadline = time.monotonic() + 60
        while not address.exists() or not address.read_text().endswith("\n"):
            assert up.poll() is None, "gauntlet up ended"
            assert time.monotonic() < deadline, "the router did not come up"
            time.sleep(0.05)
        yield folder, address.read_text().strip().removeprefix("http://")
    finally:
        up.terminate()
        assert up.wait(30) == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: apt-get install curl")
def test_every_command_of_the_example_works(router: tuple[Path, str]) -> None:
    folder, address = router
    lines = (block("bash", "case-1") + block("bash", "gauntlet register")).splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert sum(line.startswith("curl") for line in commands) == 3
    answers = []
    for command in commands:
        command = re.sub("^gauntlet ", f"{sys.executable} -m gauntlet.cli ", command)
        command = command.replace("localhost:8420", address)
        shown = subprocess.run(["bash", "-ec", command], cwd=folder, check=True, capture_output=True, text=True).stdout
        answers.append(shown)
        assert '"error"' not in shown, f"{command}\n{shown}"
    assert json.loads(answers[0])["model"] == "v0001"
    assert json.loads(answers[1]) == {"accepted": 1}
    assert json.loads(answers[2])["serving"]["champion"] == "v0001"
    assert answers[3].strip() == "v0002"
    assert answers[4].startswith("began rollout tumours-r0001 (v0002 against v0001, in shadow)")
    assert "challenger v0002 (tumours-r0001, prove) in shadow" in answers[5]
    assert "champion v0002 serves all of the traffic" in answers[6]
    assert "champion v0001 serves all of the traffic" in answers[7]


def test_the_commands_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert named
    assert named <= targets
    shown = subprocess.run(
        [sys.executable, "-m", "gauntlet.cli", "--help"], check=True, capture_output=True, text=True
    ).stdout
    commands = set(re.findall(r"(?:^|`)gauntlet ([a-z]+)", README, re.MULTILINE))
    assert commands >= {"up", "register", "example"}
    for command in commands:
        assert re.search(rf"^\s+{command}\b", shown, re.MULTILINE), command


def test_the_installation_names_an_extra_that_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(re.findall(r"pip install '\.\[(\w+)\]'", README))
    assert extras
    assert extras <= project["optional-dependencies"].keys()
    assert all((ROOT / name).is_file() for name in project["license-files"])


def test_every_linked_page_exists_and_the_documentation_is_linked_before_anything_else() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert all((ROOT / link).is_file() for link in links if "://" not in link), links
    first_screen = README[: README.index("## Install")]
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in first_screen, page.name


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.search(r"\b(TODO|FIXME|TBD)\b|^[A-Z_]{5,}$", README, re.MULTILINE)
