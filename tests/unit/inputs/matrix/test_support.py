"""A matrix is checked against compilers, locks and the runtime's table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from images.inputs.matrix.records import Matrix
from tests.unit.inputs.matrix.conftest import CUDA_13, SMALL, Reader, line_of


def test_each_row_gets_the_compiler_of_its_major_version(read: Reader) -> None:
    text = CUDA_13.replace("torch280-", "torch2110-").replace("2.8.0", "2.11.0")
    matrix = read(text.replace('cuda: "12.8"', 'cuda: "13.0"'))
    assert [target.toolkit for target in matrix.targets] == ["12.4", "13.0"]
    assert matrix.toolkits == ("12.4", "13.0")


def test_a_compiler_with_the_rows_own_headers_serves_its_minor_version_alone(read: Reader) -> None:
    text = CUDA_13.replace("torch280-", "torch2120-").replace("2.8.0", "2.12.0")
    text = text.replace('cuda: "12.8"', 'cuda: "13.2"')
    fault = read.fault(text)
    line = line_of(text, 'cuda: "13.2"')
    assert fault.startswith(f"matrix.yaml:{line}: ")
    assert fault.endswith("the compiler of toolkit 13.0 cannot serve CUDA 13.2, only 13.0")


def test_the_compiler_does_not_make_a_lock_stale(read: Reader) -> None:
    assert "12.4" not in json.dumps(read().targets[1].resolve_inputs())


def test_a_missing_cut_off_and_no_targets(read: Reader) -> None:
    without = SMALL.replace("    exclude_newer: {date: 2025-05-18, why: drift}\n", "")
    assert "has no 'exclude_newer'" in read.fault(without)
    shared = without.replace(
        "defaults:\n", "defaults:\n  exclude_newer: {date: 2025-01-01, why: y}\n"
    )
    assert [t.exclude_newer[:10] for t in read(shared).targets] == ["2025-01-01", "2025-09-16"]
    assert "there are none" in read.fault(SMALL[: SMALL.index("targets:")] + "targets: []\n")


def write_lock(matrix: Matrix, *lines: str) -> None:
    path = matrix.lock_path("torch280-sglang052")
    path.parent.mkdir(parents=True)
    hashed = [f"{line} --hash=sha256:{'0' * 64}  # x.whl 1\n" for line in lines]
    path.write_text("# head\n" + "".join(hashed))


def test_the_locked_torch_decides_its_cuda(read: Reader) -> None:
    write_lock(read(), "nvidia-cuda-runtime-cu12==12.9.79", "torch==2.8.0")
    assert "CUDA 12.9 (as torch280-sglang052.txt has it), not 12.8" in read.fault(SMALL)
    assert read(SMALL.replace('"12.8"', '"12.9"')).targets[1].cuda == "12.9"


def test_a_lock_of_another_torch_does_not_count(read: Reader) -> None:
    write_lock(read(), "nvidia-cuda-runtime==13.0.96", "torch==2.11.0")
    assert read().targets[1].cuda == "12.8"


def test_a_lock_that_is_no_text_does_not_count(read: Reader) -> None:
    write_lock(read())
    read().lock_path("torch280-sglang052").write_bytes(b"\xff\0torch")
    assert read().targets[1].cuda == "12.8"


@pytest.mark.parametrize("code", ["1/0", "SUPPORTED = 3", "raise Exception", "def", ""])
def test_a_broken_runtime_table_is_a_fault(read: Reader, runtime: Path, code: str) -> None:
    runtime.write_text(code)
    assert "roll_runtime's table of SGLang versions cannot be read" in read.fault(SMALL)


def test_a_missing_runtime_table_is_a_fault(read: Reader, runtime: Path) -> None:
    runtime.unlink()
    assert "cannot be read" in read.fault(SMALL)


def test_the_runtime_table_is_not_left_importable(read: Reader) -> None:
    before = set(sys.modules), list(sys.path)
    read()
    assert {name for name in set(sys.modules) - before[0] if "versions" in name} == set()
    assert sys.path == before[1]
