"""The small image through `load` and `test`, as its users run them."""

from __future__ import annotations

import os
import re

import pytest

from tests.integration import dockerd
from tests.integration.conftest import TARGET, SmallImage


def outcome(report: str) -> dict[str, int]:
    """How many tests passed, failed and so on, from pytest's closing line."""
    last = report.strip().splitlines()[-1]
    return {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", last)}


def test_in_a_container_of_a_real_daemon(small: SmallImage) -> None:
    with dockerd.running():
        loaded = small.cli.run("load", "--target", TARGET, "--tag", "roll-small:1")
        assert loaded.returncode == 0, loaded.stderr
        tested = small.cli.run("test", "--target", TARGET, "--backend", "docker")
    assert tested.returncode == 0, tested.stdout[-5000:]
    assert outcome(tested.stdout)["passed"] > 40


def test_on_an_unpacked_root_file_system(small: SmallImage) -> None:
    if os.geteuid() != 0:
        pytest.skip("entering a root file system needs root")
    tested = small.cli.run("test", "--target", TARGET, "--backend", "rootfs")
    assert tested.returncode == 0, tested.stdout[-5000:]
    assert outcome(tested.stdout)["passed"] > 40
