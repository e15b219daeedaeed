"""The report on the compilers' caches, and NVML where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roll_runtime import compiled, gpu, nvml


def put(path: Path, when: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, ns=(when, when))


@pytest.mark.parametrize(
    ("path", "owner", "name"),
    [
        (".triton/cache/ABC/_fwd_kernel.cubin", "triton", "_fwd_kernel"),
        (".triton/cache/ABC/cuda_utils.cpython-311-x86_64-linux-gnu.so", "triton", "cuda_utils"),
        (".cache/flashinfer/90/cached_ops/norm/norm.so", "flashinfer", "norm"),
        (".cache/w0/.cache/flashinfer/0.5.2/90a/cached_ops/page/page.so", "flashinfer", "page"),
        (
            ".cache/deep_gemm/cache/kernel.sm90_fp8_gemm.0a1b/kernel.cubin",
            "deep_gemm",
            "sm90_fp8_gemm",
        ),
        (".cache/tvm-ffi/sgl_kernel_jit_rope/rope.so", "tvm-ffi", "rope"),
        (".cache/torch_extensions/py311/x/x.so", "torch extensions", "x"),
        (".cache/elsewhere/y.so", "other", "y"),
    ],
)
def test_new_files_are_reported_by_their_compiler(
    tmp_path: Path, path: str, owner: str, name: str
) -> None:
    environ = {"HOME": str(tmp_path)}
    put(tmp_path / ".triton" / "cache" / "old" / "old.cubin")
    before = compiled.snapshot(environ)
    put(tmp_path / path)
    put(tmp_path / f"{path}.json")
    found = compiled.since(before, compiled.snapshot(environ))
    assert found == {owner: {"count": 1, "names": [name]}}


def test_a_file_that_was_written_again_counts(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    path = tmp_path / ".cache" / "flashinfer" / "norm.so"
    put(path)
    before = compiled.snapshot(environ)
    assert compiled.since(before, compiled.snapshot(environ)) == {}
    put(path, when=2)
    assert compiled.since(before, compiled.snapshot(environ))["flashinfer"]["count"] == 1


def test_settings_move_a_cache(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home"), "TRITON_CACHE_DIR": str(tmp_path / "triton")}
    assert compiled.since({}, compiled.snapshot(environ)) == {}
    for folder in ("1", "2"):
        put(tmp_path / "triton" / folder / "kernel_a.cubin")
    put(tmp_path / "triton" / "3" / "kernel_b.cubin")
    assert compiled.since({}, compiled.snapshot(environ)) == {
        "triton": {"count": 3, "names": ["kernel_a", "kernel_b"]}
    }


def test_nvml_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert nvml.used_mib(["0000:0F:00.0"]) is None
    assert nvml.driver_version() is None
    assert "cannot be loaded" in gpu.ask()["error"]
