"""Commands in the base's root: what they see, and what is left of one that fails."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from images.content.debian import confined, mmdebstrap
from images.content.debian.confined import Job


def hooks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: Job) -> list[str]:
    """The steps of a job in the root."""
    found: list[str] = []

    def change(
        workdir: Path,
        recipe: Path,
        epoch: int,
        steps: mmdebstrap.Hooks,
        unpacked: Sequence[str] | None,
    ) -> None:
        assert (unpacked is None) == job.installed
        found.extend(steps(Path("/the place")))
        (workdir / "build.log").write_text("its output")

    monkeypatch.setattr(mmdebstrap, "change", change)
    output, log = confined.run(job, [], tmp_path, tmp_path)
    assert (output, log) == (tmp_path / f"{job.results}.tar", "its output")
    return found


def programs(tmp_path: Path) -> Path:
    """Stand-ins for what needs root: a command runs where it is, without another user."""
    path = tmp_path / "bin"
    path.mkdir()
    scripts = {
        "unshare": "exit 1",
        "chroot": 'shift; exec "$@"',
        "setsid": 'shift; exec "$@"',
        "setpriv": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
        "chown": ":",
    }
    for name, text in scripts.items():
        (path / name).write_text(f"#!/bin/sh\n{text}\n")
        (path / name).chmod(0o755)
    return path


def run(tmp_path: Path, steps: list[str]) -> Path:
    """Run the steps in a directory that stands in for the root, but for mmdebstrap's own."""
    root = tmp_path / "root"
    root.mkdir()
    environment = {"PATH": f"{programs(tmp_path)}:/usr/bin:/bin", "SECRET": "of the host"}
    for step in steps:
        if not step.startswith(("tar-in ", "download ")):
            subprocess.run(["sh", "-ec", step, "sh", str(root)], env=environment, check=True)
    return root


def test_command_has_its_own_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("sh", "-c", "env; echo 'x y' > \"$KEPT\"")
    kept = tmp_path / "root" / "build" / "results" / "kept"
    job = Job(
        tmp_path / "a.tar", command, "results", environment={"KEPT": str(kept), "A": "b c; d"}
    )
    root = run(tmp_path, hooks(monkeypatch, tmp_path, job))
    log = (root / "build" / "build.log").read_text()
    seen = dict(line.split("=", 1) for line in log.splitlines())
    assert seen["A"] == "b c; d"
    assert seen["HOME"] == "/build"
    assert "SECRET" not in seen
    listing = subprocess.run(
        ["tar", "-tf", root / "build" / "results.tar"], check=True, capture_output=True, text=True
    )
    assert listing.stdout.split() == ["./", "./kept"]


def test_command_that_fails_leaves_its_output_and_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "root" / "build" / "results"
    text = f"mkdir -p {results}/a/b; echo half > {results}/a/b/c; echo reason >&2; exit 3"
    job = Job(tmp_path / "a.tar", ("sh", "-c", text), "results", installed=False)
    root = run(tmp_path, hooks(monkeypatch, tmp_path, job))
    assert (root / "build" / "build.log").read_text() == "reason\n"
    assert list(results.iterdir()) == []


def test_files_are_unpacked_where_the_job_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path / "a.tar", ("true",), "results", destination="/", own=("source",))
    steps = hooks(monkeypatch, tmp_path, job)
    assert "tar-in '/the place/a.tar' /" in steps
    assert 'chown -R 65534:65534 "$1/build/source"' in steps
    assert "download /build/results.tar '/the place/results.tar'" in steps
