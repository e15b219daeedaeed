"""Stub libraries: the linker takes them, and their bytes depend on names alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from images.content.cuda import stub_library, toolkit
from tests.unit.fake_toolkits import CUDA_H


def test_the_stub_depends_on_names_only() -> None:
    assert stub_library.shared_library("libx.so.1", ["b", "a", "b"]) == stub_library.shared_library(
        "libx.so.1", ["a", "b"]
    )


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to link")
def test_the_linker_takes_both_stubs(tmp_path: Path) -> None:
    (tmp_path / "libcuda.so").write_bytes(toolkit.driver_stub(CUDA_H))
    (tmp_path / "libcudadevrt.a").write_bytes(stub_library.empty_archive())
    (tmp_path / "x.c").write_text("int cuInit(unsigned); int main(void) { return cuInit(0); }")
    command = ["gcc", "x.c", "-o", "x", "-L.", "-lcuda", "-lcudadevrt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert b"libcuda.so.1\0" in (tmp_path / "x").read_bytes()
