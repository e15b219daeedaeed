from __future__ import annotations

import ctypes
import hashlib
import posixpath
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from images import elfstub, toolkit
from images.artifact import Artifact
from images.entry import Entry
from images.errors import IntegrityError, LockError
from images.lock import Distribution
from images.toolkit import Toolkit
from tests.unit.fake_debs import cached_deb

CUDA_H = """
#define CU_MEMHOSTALLOC_PORTABLE 0x01
#if defined(__CUDA_API_PER_THREAD_DEFAULT_STREAM)
    #define __CUDA_API_PTDS(api) api ## _ptds
    #define __CUDA_API_PTSZ(api) api ## _ptsz
#endif
#define cuMemAlloc                          cuMemAlloc_v2
#define cuMemcpy                            __CUDA_API_PTDS(cuMemcpy)
    #define cuLaunchKernel                  __CUDA_API_PTSZ(cuLaunchKernel)
CUresult CUDAAPI cuInit(unsigned int Flags);
CUresult CUDAAPI cuMemAlloc(CUdeviceptr *dptr, size_t bytesize);
"""


def cached_wheel(cache: Path, name: str, members: Mapping[str, str]) -> Distribution:
    path = cache / "new.whl"
    cache.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    filename = f"{name}-1-py3-none-any.whl"
    artifact = Artifact(filename, digest, path.stat().st_size)
    (cache / digest).mkdir()
    path.rename(cache / digest / filename)
    return Distribution(name, "1", artifact)


def fake_toolkit(cache: Path) -> Toolkit:
    programs = {place: place.encode() for place in toolkit._PROGRAMS}
    runtime = {
        "nvidia/__init__.py": "",
        "nvidia/cuda_runtime/include/__init__.py": "",
        "nvidia/cuda_runtime/include/cuda.h": CUDA_H,
        "nvidia/cuda_runtime/lib/libcudart.so.12": "a library",
    }
    return Toolkit(
        "12.4",
        (cached_deb(cache, "nvidia-cuda-toolkit", {**programs, "usr/bin/nvprune": b""}),),
        (
            cached_wheel(cache, "nvidia-cuda-runtime-cu12", runtime),
            cached_wheel(cache, "nvidia-cuda-cccl-cu12", {"nvidia/cuda_cccl/include/cub/a.h": ""}),
        ),
    )


def by_path(tools: Toolkit, cache: Path) -> dict[str, Entry]:
    found = list(toolkit.entries(tools, cache))
    assert len({entry.path for entry in found}) == len(found)
    return {entry.path.removeprefix("usr/local/cuda/"): entry for entry in found}


def content(entry: Entry) -> bytes:
    with entry.open() as stream:
        return stream.read()


# -- the lock ------------------------------------------------------------------------------------


def test_the_lock_is_that_of_the_recipe() -> None:
    tools = toolkit.locked()
    assert [str(deb) for deb in tools.debs] == [
        f"{name}={version}" for name, version in toolkit._DEBS.items()
    ]
    assert sorted(wheel.pin for wheel in tools.wheels) == sorted(toolkit._WHEELS)
    assert "://" not in toolkit.LOCK.read_text()


def test_other_sources_make_the_lock_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkit, "_WHEELS", ("nvidia-cuda-nvcc-cu12==12.5.40",))
    with pytest.raises(LockError, match="stale"):
        toolkit.locked()


def test_the_key_follows_the_files(tmp_path: Path) -> None:
    tools = fake_toolkit(tmp_path)
    assert toolkit.key(tools) != toolkit.key(replace(tools, wheels=tools.wheels[1:]))
    assert toolkit.key(tools) == toolkit.key(replace(tools, wheels=tools.wheels[::-1]))


# -- the compiler layer --------------------------------------------------------------------------


def test_programs_and_headers_get_their_places(tmp_path: Path) -> None:
    found = by_path(fake_toolkit(tmp_path), tmp_path)
    for program in ("bin/nvcc", "bin/ptxas", "nvvm/bin/cicc", "bin/cuobjdump"):
        assert found[program].mode == 0o755, program
    assert content(found["bin/ptxas"]) == b"usr/bin/ptxas"
    assert found["include/cuda.h"].mode == 0o644
    assert {"include/cub/a.h", "bin/crt/link.stub", "nvvm/libdevice/libdevice.10.bc"} <= set(found)
    assert not [path for path in found if "nvprune" in path or "__init__" in path]


def test_no_library_is_copied(tmp_path: Path) -> None:
    found = by_path(fake_toolkit(tmp_path), tmp_path)
    assert not [path for path in found if "libcudart.so" in path]
    assert b"INPUT(-lcudart)" in content(found["lib64/libcudart_static.a"])


def test_the_profile_names_no_other_prefix(tmp_path: Path) -> None:
    profile = content(by_path(fake_toolkit(tmp_path), tmp_path)["bin/nvcc.profile"]).decode()
    assert "/usr" not in profile
    assert "$(TOP)/nvvm/bin" in profile


def test_a_package_without_a_program_is_refused(tmp_path: Path) -> None:
    tools = fake_toolkit(tmp_path)
    poor = cached_deb(tmp_path / "poor", "nvidia-cuda-toolkit", {"usr/bin/ptxas": b""})
    shutil.move(tmp_path / "poor" / poor.artifact.sha256, tmp_path)
    with pytest.raises(IntegrityError, match="cicc"):
        list(toolkit.entries(replace(tools, debs=(poor,)), tmp_path))


def test_a_header_from_two_wheels_is_refused(tmp_path: Path) -> None:
    tools = fake_toolkit(tmp_path)
    again = cached_wheel(tmp_path, "again", {"nvidia/again/include/cuda.h": ""})
    with pytest.raises(IntegrityError, match=r"cuda\.h"):
        list(toolkit.entries(replace(tools, wheels=(*tools.wheels, again)), tmp_path))


# -- what is linked against ----------------------------------------------------------------------


def test_the_drivers_functions_come_from_its_header() -> None:
    assert toolkit._driver_functions(CUDA_H) == [
        "cuInit",
        "cuLaunchKernel",
        "cuLaunchKernel_ptsz",
        "cuMemAlloc",
        "cuMemAlloc_v2",
        "cuMemcpy",
        "cuMemcpy_ptds",
    ]


def test_the_stub_is_a_library_that_says_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "libcuda.so"
    path.write_bytes(toolkit.driver_stub(CUDA_H))
    library = ctypes.CDLL(str(path))
    assert library.cuInit(0) == 34  # CUDA_ERROR_STUB_LIBRARY
    assert library.cuMemAlloc_v2(0, 0) == 34
    with pytest.raises(AttributeError):
        library.cuDeviceGet  # noqa: B018


def test_the_stub_depends_on_names_only() -> None:
    assert elfstub.shared_library("libx.so.1", ["b", "a", "b"]) == elfstub.shared_library(
        "libx.so.1", ["a", "b"]
    )


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to link")
def test_the_linker_takes_both_stubs(tmp_path: Path) -> None:
    (tmp_path / "libcuda.so").write_bytes(toolkit.driver_stub(CUDA_H))
    (tmp_path / "libcudadevrt.a").write_bytes(elfstub.empty_archive())
    (tmp_path / "x.c").write_text("int cuInit(unsigned); int main(void) { return cuInit(0); }")
    command = ["gcc", "x.c", "-o", "x", "-L.", "-lcuda", "-lcudadevrt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert b"libcuda.so.1\0" in (tmp_path / "x").read_bytes()


# -- the links layer -----------------------------------------------------------------------------

WHEELS = {
    "nvidia-cublas-cu12": [
        "nvidia/__init__.py",
        "nvidia/cublas/include/__init__.py",
        "nvidia/cublas/include/cublas_v2.h",
        "nvidia/cublas/lib/libcublas.so.12",
        "nvidia_cublas_cu12-12.8.4.1.dist-info/METADATA",
    ],
    "nvidia-cuda-runtime-cu12": [
        "nvidia/cuda_runtime/include/cuda_runtime.h",
        "nvidia/cuda_runtime/lib/libcudart.so.12",
    ],
    "nvidia-cuda-cupti-cu12": ["nvidia/cuda_cupti/lib/libcheckpoint.so"],
    "nvidia-cuda-nvrtc-cu12": ["nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.8"],
    "nvidia-nvtx-cu12": ["nvidia/nvtx/include/nvtx3/nvToolsExt.h"],
    "nvidia-cusparselt-cu12": ["cusparselt/lib/libcusparseLt.so.0"],  # as in torch 2.6's
    "nvidia-cutlass-dsl": ["nvidia_cutlass_dsl/lib/libcuda_dialect_runtime.so"],
}


def test_libraries_and_headers_are_linked_from_their_wheels() -> None:
    found = list(toolkit.link_entries(WHEELS))
    assert [entry.path for entry in found] == [
        "usr/lib/x86_64-linux-gnu/libcublas.so.12",
        "usr/lib/x86_64-linux-gnu/libcudart.so.12",
        "usr/lib/x86_64-linux-gnu/libcusparseLt.so.0",
        "usr/lib/x86_64-linux-gnu/libnvrtc-builtins.so.12.8",
        "usr/local/cuda/include/cublas_v2.h",
        "usr/local/cuda/include/nvtx3/nvToolsExt.h",
        "usr/local/cuda/lib64/libcheckpoint.so",
        "usr/local/cuda/lib64/libcublas.so",
        "usr/local/cuda/lib64/libcublas.so.12",
        "usr/local/cuda/lib64/libcudart.so",
        "usr/local/cuda/lib64/libcudart.so.12",
        "usr/local/cuda/lib64/libcusparseLt.so",
        "usr/local/cuda/lib64/libcusparseLt.so.0",
        "usr/local/cuda/lib64/libnvrtc-builtins.so",
        "usr/local/cuda/lib64/libnvrtc-builtins.so.12.8",
    ]
    assert {entry.kind for entry in found} == {"symlink"}


def test_links_lead_to_the_wheels_files() -> None:
    members = {member for wheel in WHEELS.values() for member in wheel}
    for entry in toolkit.link_entries(WHEELS):
        place = posixpath.dirname(entry.path)
        target = posixpath.normpath(posixpath.join(place, entry.target))
        assert target.removeprefix("opt/venv/lib/python3.11/site-packages/") in members


def test_a_library_from_two_wheels_is_refused() -> None:
    twice = {**WHEELS, "nvidia-cublas": ["nvidia/cu13/lib/libcublas.so.12"]}
    with pytest.raises(IntegrityError, match=r"libcublas\.so\.12"):
        list(toolkit.link_entries(twice))
