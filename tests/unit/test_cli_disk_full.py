"""What a command says where the data folder's disk fills up."""

from __future__ import annotations

import errno
import os

import pytest

from gauntlet.cli import output


def test_a_copy_that_finds_no_space_names_the_file_that_it_could_not_write(capsys: pytest.CaptureFixture[str]) -> None:
    """As `gauntlet register` raises it: the model that it reads is not what is full."""

    def copy() -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.skops", None, "gauntlet-data/registry/v0002")

    assert output.guarded(copy) == 2
    assert capsys.readouterr().err == "gauntlet: gauntlet-data/registry/v0002: No space left on device\n"
