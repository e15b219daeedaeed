"""`lock --check`, and locks that do not match their inputs."""

from __future__ import annotations

from pathlib import Path

from tests.unit.command_line import TARGET, change, cli, failed, lock_of


def test_missing_lock_is_reported_with_its_remedy(matrix: Path, tmp_path: Path) -> None:
    lock_of(matrix).unlink()
    said = failed(4, "--target", TARGET, "--matrix", matrix, "--store", tmp_path / "s")
    assert "no such lock" in said
    assert f"python build.py lock --target {TARGET}" in said
    assert not (tmp_path / "s").exists()


def test_edited_lock_is_reported(matrix: Path, tmp_path: Path) -> None:
    change(lock_of(matrix), "einops==", "einops==9.")
    said = failed(4, "--target", TARGET, "--matrix", matrix, "--store", tmp_path / "s")
    assert "edited by hand" in said
    assert f"python build.py lock --target {TARGET}" in said


def test_stale_lock_is_reported(matrix: Path, tmp_path: Path) -> None:
    change(matrix, "date: 2025-09-16", "date: 2025-09-17")
    said = failed(4, "--target", TARGET, "--matrix", matrix, "--store", tmp_path / "s")
    assert "lock is stale" in said
    assert f"python build.py lock --target {TARGET}" in said


def test_check_lists_every_stale_lock_and_changes_nothing(matrix: Path) -> None:
    lock_of(matrix).unlink()
    other = lock_of(matrix).with_name("torch260-sglang046.txt")
    change(other, "einops==", "einops==9.")
    before = other.read_bytes()
    said = failed(4, "lock", "--check", "--matrix", matrix)
    assert "no such lock" in said
    assert "edited by hand" in said
    assert said.count("python build.py lock --target") == 2
    assert other.read_bytes() == before
    assert not lock_of(matrix).exists()


def test_lock_of_some_gpus_is_that_of_the_target(matrix: Path) -> None:
    given = ("lock", "--check", "--matrix", matrix, "--target", f"{TARGET}-sm90")
    assert cli(*given).returncode == 0
    lock_of(matrix).unlink()
    said = failed(4, *given)
    assert str(lock_of(matrix)) in said
    assert said.rstrip().endswith(f"python build.py lock --target {TARGET}")


def test_the_locks_match_the_matrix() -> None:
    done = cli("lock", "--check")
    assert done.returncode == 0, done.stderr
    assert "locks match their inputs" in done.stdout


def test_kernels_that_would_be_downloaded_are_reported() -> None:
    done = cli("lock", "--check", "--target", "torch2130-sglang0518")
    assert "torch2130-sglang0518: no flashinfer-cubin of FlashInfer's version" in done.stdout
    assert "docs/matrix.md#nothing-is-downloaded-at-run-time" in done.stdout
    done = cli("lock", "--check", "--target", "torch2110-sglang0512")
    assert "flashinfer-cubin" not in done.stdout
