"""The script in nvcc's place: one process id, and temporary files apart for each output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from images.content.cuda import stub_library
from images.content.kernels import kernel_inputs


@pytest.fixture
def nvcc(tmp_path: Path) -> Path:
    """The script, with a directory of the test for /build, beside a program that reports."""
    getpid, temporary = tmp_path / "getpid.so", tmp_path / "temporary"
    getpid.write_bytes(stub_library.shared_library("getpid.so", ["getpid"]))
    script = tmp_path / "nvcc"
    script.write_text(kernel_inputs.NVCC.read_text().replace("/build/", f"{tmp_path}/"))
    real = tmp_path / "nvcc.real"
    # LD_PRELOAD's library is of x86-64 and without a dependency: any program loads it.
    real.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "print(os.getpid(), os.environ['TMPDIR'], os.path.isdir(os.environ['TMPDIR']))\n"
        "print(sys.argv[1:])\n"
    )
    for path in (script, real):
        path.chmod(0o755)
    assert not temporary.exists()
    return script


def run(nvcc: Path, *arguments: str) -> tuple[str, str, str, str]:
    environment = {"PATH": os.defpath}
    command = [str(nvcc), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    first, second = done.stdout.splitlines()
    pid, directory, exists = first.split(" ")
    return pid, directory, exists, second


def test_process_id_is_the_same_in_each_run(nvcc: Path) -> None:
    assert {run(nvcc, "-c", "a.cu", "-o", "a.o")[0] for _ in range(3)} == {"34"}


def test_temporary_files_are_apart_by_output_and_the_same_in_each_run(nvcc: Path) -> None:
    first, again, other = (run(nvcc, "-o", name) for name in ("x/a.o", "x/a.o", "y/a.o"))
    assert first[1] == again[1] != other[1]
    assert first[2] == other[2] == "True"


def test_arguments_are_passed_on(nvcc: Path) -> None:
    assert run(nvcc, "-D", "A='b c'", "--version")[3] == str(["-D", "A='b c'", "--version"])
