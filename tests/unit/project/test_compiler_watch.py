"""The GPU suite's watch of compilers, without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gpu import compiler_watch, qwen_engine
from tests.gpu.compiler_watch import Command

DEEP_GEMM = {"deep_gemm": {"count": 2, "names": ["sm90_gemm"]}}


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('#!/bin/sh\necho "real $*"\n')
    path.chmod(0o755)
    return path


def test_a_compiler_is_noted_by_whatever_path_it_is_called(tmp_path: Path) -> None:
    gcc = program(tmp_path / "bin" / "x86_64-linux-gnu-gcc-12")
    (tmp_path / "bin" / "gcc").symlink_to(gcc.name)
    (tmp_path / "bin" / "cc").symlink_to("gcc")
    ninja = program(tmp_path / "site" / "ninja" / "data" / "bin" / "ninja")
    nvcc = program(tmp_path / "cuda" / "bin" / "nvcc")
    env = {"PATH": str(tmp_path / "bin"), "CUDA_HOME": str(tmp_path / "cuda")}
    log = tmp_path / "log"
    script = [sys.executable, "-c", compiler_watch.REPLACE, str(log), str(tmp_path / "site")]
    done = subprocess.run(script, env=env, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == {str(gcc): "gcc", str(nvcc): "nvcc", str(ninja): "ninja"}
    for path in (gcc, tmp_path / "bin" / "cc", nvcc, ninja):
        said = subprocess.run([path, "-c", "a.cu"], check=True, capture_output=True, text=True)
        assert said.stdout == "real -c a.cu\n"
    seen = [*compiler_watch.parse(log.read_text())]
    assert [command.program for command in seen] == ["gcc", "gcc", "nvcc", "ninja"]


@pytest.mark.parametrize(
    ("line", "compiles", "output"),
    [
        ("nvcc --version", False, "unnamed"),
        ("ninja --version", False, "unnamed"),
        ("ninja -v", True, "unnamed"),
        ("gcc -dumpversion", False, "unnamed"),
        ("gcc main.c -O3 -shared -o /tmp/x/cuda_utils.cpython-311-x86_64.so", True, "cuda_utils"),
        ("nvcc -c norm.cu -o norm.cuda.o", True, "norm"),
    ],
)
def test_questions_are_no_compiling(line: str, compiles: bool, output: str) -> None:
    (command,) = compiler_watch.parse(line)
    assert (command.compiles, command.output) == (compiles, output)


def test_what_is_compiled_is_listed_as_smoke_lists_it() -> None:
    ran = [Command("gcc", ("a.c", "-o", name)) for name in ("b.so", "a.so", "a.so")]
    assert compiler_watch.listed(ran, DEEP_GEMM) == {
        **DEEP_GEMM,
        "gcc": {"count": 3, "names": ["a", "b"]},
    }


@pytest.mark.parametrize(
    ("found", "expected", "fault"),
    [
        ({}, {}, []),
        ({"triton": {"count": 2, "names": ["a"]}}, {"triton": {"count": 2, "names": ["a"]}}, []),
        ({"triton": {"count": 1, "names": ["a"]}}, {}, ["triton: a"]),
        (
            {"triton": {"count": 3, "names": ["a"]}},
            {"triton": {"count": 2, "names": ["a"]}},
            ["triton: 3 instead of 2"],
        ),
        (
            {"ninja": {"count": 1, "names": ["unnamed"]}},
            {"ninja": {"count": 1, "names": ["unnamed"]}},
            ["ninja: unnamed"],
        ),
        (
            {"flashinfer": {"count": 1, "names": ["norm"]}},
            {"flashinfer": {"count": 1, "names": ["norm"]}},
            ["flashinfer: norm"],
        ),
        ({**DEEP_GEMM, "nvcc": {"count": 2, "names": ["x"]}}, DEEP_GEMM, []),
        ({"nvcc": {"count": 3, "names": ["x"]}}, DEEP_GEMM, ["nvcc: 3 instead of 2"]),
        ({"nvcc": {"count": 1, "names": ["x"]}}, {}, ["nvcc: 1 instead of 0"]),
    ],
)
def test_what_may_not_grow(
    found: dict[str, Any], expected: dict[str, Any], fault: list[str]
) -> None:
    assert compiler_watch.faults(found, expected) == fault


def test_the_list_is_of_targets_and_starts() -> None:
    path = Path(compiler_watch.__file__).with_name("still_compiled.json")
    for target, starts in json.loads(path.read_text()).items():
        assert not target.endswith("-roll"), "a flavour compiles what its target does"
        for owners in starts.values():
            assert set(owners) <= {*compiler_watch.ALLOWED, "nvcc", "cicc"}


def test_every_request_has_a_sampling() -> None:
    assert qwen_engine.BATCHES[-1] >= len(qwen_engine.SAMPLINGS)
    assert qwen_engine.arguments(Path("/model"))["max_running_requests"] == 16
