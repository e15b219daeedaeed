"""The command line as a user runs it: exit codes, messages, and never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from images.oci.store.store import Store
from images.repository import ROOT
from tests.unit.command_line import TARGET, change, cli, failed
from tests.unit.small_matrix import SmallMatrix, wheel


def test_build_without_a_network_reads_no_registry(tmp_path: Path) -> None:
    cache = ("--cache-from", "localhost:1/cache")
    said = failed(2, "build", "--all", "--offline", "--store", tmp_path / "store", *cache)
    assert "--offline uses no network" in said


def test_typo_in_the_matrix_is_reported_with_its_line(matrix: Path, tmp_path: Path) -> None:
    change(matrix, "    cuda: ", "    cudaa: ")
    lines = matrix.read_text().splitlines()
    number = next(index for index, line in enumerate(lines, 1) if "cudaa" in line)
    for arguments in (["list"], ["--target", TARGET], ["lock", "--check"]):
        said = failed(3, *arguments, "--matrix", matrix, "--store", tmp_path / "s")
        assert "did you mean 'cuda'" in said
        assert f"{number}" in said
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"a: &a [*a]\n"])
def test_matrix_that_cannot_be_read_is_reported(matrix: Path, content: bytes) -> None:
    matrix.write_bytes(content)
    assert str(matrix.name) in failed(3, "list", "--matrix", matrix)


def test_missing_matrix_is_reported(tmp_path: Path) -> None:
    assert "none.yaml" in failed(3, "list", "--matrix", tmp_path / "none.yaml")


def test_crossed_budget_fails_the_build_before_the_image_has_its_name(work: SmallMatrix) -> None:
    """Every layer is in the store, so that nothing is fetched or made."""
    torch, before = wheel("torch", 9_000_000, "2.8.0"), work.build("052")
    work.write({"052": [torch, wheel("scipy", 6_000_000, "2.0")]})
    image = work.build("052")
    work.store.save(before)
    places = ("--matrix", work.matrix.path, "--store", work.place / "store")
    given = ("--target", TARGET, *places, "--cache", work.place / "cache")
    change(work.matrix.path, "why: a test}\n", "why: a test}\n    budget: {size: 1kB, why: so}\n")
    said = failed(13, *given)
    assert "scipy 1.0 -> 2.0" in said
    assert "fix: take out or pin what grew" in said
    assert work.store.images()[TARGET] == before.manifest_digest
    change(work.matrix.path, "size: 1kB", "size: 1GB")
    assert cli(*given).returncode == 0
    assert work.store.images()[TARGET] == image.manifest_digest


def test_store_in_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    assert "not empty" in failed(7, "--target", TARGET, "--store", tmp_path)


def test_reader_that_goes_away_is_no_traceback(store: Store) -> None:
    command = [sys.executable, str(ROOT / "build.py"), "inspect", "--store", str(store.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stderr
        child.stdout.close()
        assert b"Traceback" not in child.stderr.read()


@pytest.mark.parametrize("variable", ["LC_ALL", "PYTHONIOENCODING"])
def test_terminal_without_unicode_is_no_traceback(store: Store, variable: str) -> None:
    value = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}[variable]
    assert cli("list", "--store", store.path, **{variable: value}).returncode == 0
    assert cli("nonsense", **{variable: value}).returncode == 2
