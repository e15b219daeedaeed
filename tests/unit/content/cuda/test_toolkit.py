from __future__ import annotations

import ctypes
import io
import posixpath
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from images.content.cuda import links, stub_library, toolkit
from images.errors import IntegrityError
from images.inputs.compilers import BY_VERSION
from images.inputs.lock import cuda_lock
from images.inputs.lock.cuda_lock import Toolkit
from images.oci.layer.entry import Entry
from tests.unit.fake_debs import cached_deb
from tests.unit.fake_toolkits import CUDA_H, cached, cached_wheel, fake_12, fake_13

KEY_12 = "8b59adbfc2ee63b1e3a67f407d4558a949e971e25582d335526dc4d4976dc86f"


@pytest.fixture(params=[fake_12, fake_13], ids=["12.4", "13.0"])
def tools(request: pytest.FixtureRequest, tmp_path: Path) -> Toolkit:
    made: Toolkit = request.param(tmp_path)
    return made


def by_path(tools: Toolkit, cache: Path) -> dict[str, Entry]:
    found = list(toolkit.entries(tools, cache))
    assert len({entry.path for entry in found}) == len(found)
    return {entry.path.removeprefix("usr/local/cuda/"): entry for entry in found}


def content(entry: Entry) -> bytes:
    with entry.open() as stream:
        return stream.read()


# -- the key -------------------------------------------------------------------------------------


def test_the_key_follows_the_files(tools: Toolkit) -> None:
    assert toolkit.key(tools) != toolkit.key(replace(tools, wheels=tools.wheels[1:]))
    assert toolkit.key(tools) == toolkit.key(replace(tools, wheels=tools.wheels[::-1]))


def test_the_key_follows_the_format(tools: Toolkit, monkeypatch: pytest.MonkeyPatch) -> None:
    before = toolkit.key(tools)
    other = replace(tools.sources, format="other")
    monkeypatch.setattr(cuda_lock, "BY_VERSION", {tools.version: other})
    assert toolkit.key(tools) != before


def test_cuda_12_layers_have_the_key_that_is_in_registries() -> None:
    """A CUDA 13 target, or a new way to write this module, must not change the others."""
    assert toolkit.key(cuda_lock.read("12.4")) == KEY_12


# -- the compiler layer --------------------------------------------------------------------------


def test_programs_get_their_places(tools: Toolkit, tmp_path: Path) -> None:
    found = by_path(tools, tmp_path)
    for program in ("bin/nvcc", "bin/ptxas", "nvvm/bin/cicc", "bin/cuobjdump", "bin/nvdisasm"):
        assert found[program].mode == 0o755, program
    assert content(found["bin/ptxas"]).endswith(b"bin/ptxas")
    assert {"bin/crt/link.stub", "nvvm/libdevice/libdevice.10.bc", "EULA.txt"} <= set(found)
    assert found["nvvm/libdevice/libdevice.10.bc"].mode == 0o644
    assert not [path for path in found if "nvprune" in path or "__init__" in path]


def test_headers_that_must_fit_the_compiler_are_with_it(tmp_path: Path) -> None:
    found = by_path(fake_12(tmp_path), tmp_path)
    assert found["include/cuda.h"].mode == 0o644
    assert "include/cub/a.h" in found


def test_headers_that_the_target_brings_are_not_copied(tmp_path: Path) -> None:
    found = by_path(fake_13(tmp_path), tmp_path)
    assert "include/cccl/cub/a.h" in found
    assert "include/cuda.h" not in found
    assert "lib64/libcudadevrt.a" not in found
    assert b"cuMemcpy_ptds" in content(found["lib64/stubs/libcuda.so"])


def test_no_library_is_copied(tools: Toolkit, tmp_path: Path) -> None:
    found = by_path(tools, tmp_path)
    libraries = [path for path in found if ".so" in path]
    assert libraries == ["lib64/stubs/libcuda.so"]
    assert b"INPUT(-lcudart)" in content(found["lib64/libcudart_static.a"])


def test_the_profile_names_no_other_prefix(tmp_path: Path) -> None:
    profile = content(by_path(fake_12(tmp_path), tmp_path)["bin/nvcc.profile"]).decode()
    assert "/usr" not in profile
    assert "$(TOP)/nvvm/bin" in profile


def test_a_package_without_a_program_is_refused(tmp_path: Path) -> None:
    tools = fake_12(tmp_path)
    poor = cached_deb(tmp_path / "poor", "nvidia-cuda-toolkit", {"usr/bin/ptxas": b""})
    shutil.move(tmp_path / "poor" / poor.artifact.sha256, tmp_path)
    with pytest.raises(IntegrityError, match="cicc"):
        list(toolkit.entries(replace(tools, debs=(poor,)), tmp_path))


def test_wheels_without_a_program_are_refused(tmp_path: Path) -> None:
    tools = fake_13(tmp_path)
    with pytest.raises(IntegrityError, match=r"missing .*cicc"):
        list(toolkit.entries(replace(tools, wheels=tools.wheels[:-1]), tmp_path))


def test_a_header_from_two_wheels_is_refused(tmp_path: Path) -> None:
    tools = fake_12(tmp_path)
    again = cached_wheel(tmp_path, "again", {"nvidia/again/include/cuda.h": ""})
    with pytest.raises(IntegrityError, match=r"cuda\.h"):
        list(toolkit.entries(replace(tools, wheels=(*tools.wheels, again)), tmp_path))


def test_a_wheel_that_is_none_is_refused(tmp_path: Path) -> None:
    tools = fake_13(tmp_path)
    broken = replace(tools, wheels=(cached(tmp_path, "no", b"<html>"),))
    with pytest.raises(IntegrityError, match=r"no-1-py3-none-any\.whl: not a valid wheel"):
        list(toolkit.entries(broken, tmp_path))


def test_a_wheel_whose_header_does_not_inflate_is_refused(tmp_path: Path) -> None:
    tools = fake_13(tmp_path)
    header, out = "nvidia/cu13/include/packed.h", io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(header, "int x;\n" * 1000)
    content = bytearray(out.getvalue())
    content[30 + len(header)] = 0xFF  # behind the local header: a block that deflate does not have
    broken = replace(tools, wheels=(cached(tmp_path, "packed", bytes(content)),))
    with pytest.raises(IntegrityError, match=r"packed-1-py3-none-any\.whl: not a valid wheel"):
        list(toolkit.entries(broken, tmp_path))


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


OWN = {"nvidia-cuda-runtime-cu12", "nvidia-cuda-nvcc-cu12", "nvidia-cuda-cccl-cu12"}

WHEELS_13 = {
    "nvidia-cublas": ["nvidia/cu13/include/cublas_v2.h", "nvidia/cu13/lib/libcublas.so.13"],
    "nvidia-cuda-runtime": [
        "nvidia/cu13/include/cuda_runtime.h",
        "nvidia/cu13/lib/libcudadevrt.a",
        "nvidia/cu13/lib/libcudart.so.13",
        "nvidia/cu13/lib/libcudart_static.a",
        "nvidia_cuda_runtime-13.0.96.dist-info/METADATA",
    ],
    "nvidia-cudnn-cu13": ["nvidia/cudnn/include/cudnn.h", "nvidia/cudnn/lib/libcudnn.so.9"],
    # SGLang 0.5.18 and later bring a compiler of another version for their kernel languages.
    "nvidia-cuda-cccl": ["nvidia/cu13/include/cccl/cub/cub.cuh"],
    "nvidia-nvvm": ["nvidia/cu13/include/nvvm.h", "nvidia/cu13/lib/libnvvm.so.4"],
}
OWN_13 = {
    "nvidia-cuda-cccl",
    "nvidia-cuda-crt",
    "nvidia-cuda-cuobjdump",
    "nvidia-cuda-nvcc",
    "nvidia-cuda-nvdisasm",
    "nvidia-nvvm",
}


def test_libraries_and_headers_are_linked_from_their_wheels() -> None:
    found = list(links.entries(WHEELS, OWN))
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


def test_cuda_13_has_one_directory_for_all() -> None:
    """Of the runtime, which the compiler does not have, headers and device runtime are linked."""
    assert [entry.path for entry in links.entries(WHEELS_13, OWN_13)] == [
        "usr/lib/x86_64-linux-gnu/libcublas.so.13",
        "usr/lib/x86_64-linux-gnu/libcudart.so.13",
        "usr/lib/x86_64-linux-gnu/libcudnn.so.9",
        "usr/lib/x86_64-linux-gnu/libnvvm.so.4",
        "usr/local/cuda/include/cublas_v2.h",
        "usr/local/cuda/include/cuda_runtime.h",
        "usr/local/cuda/include/cudnn.h",
        "usr/local/cuda/lib64/libcublas.so",
        "usr/local/cuda/lib64/libcublas.so.13",
        "usr/local/cuda/lib64/libcudadevrt.a",
        "usr/local/cuda/lib64/libcudart.so",
        "usr/local/cuda/lib64/libcudart.so.13",
        "usr/local/cuda/lib64/libcudnn.so",
        "usr/local/cuda/lib64/libcudnn.so.9",
        "usr/local/cuda/lib64/libnvvm.so",
        "usr/local/cuda/lib64/libnvvm.so.4",
    ]


@pytest.mark.parametrize("version", BY_VERSION)
def test_headers_of_the_compilers_own_wheels_are_not_linked(version: str) -> None:
    own = {wheel.name for wheel in cuda_lock.read(version).header_wheels}
    assert own == {"12.4": OWN, "13.0": OWN_13}[version]


@pytest.mark.parametrize("wheels", ["WHEELS", "WHEELS_13"])
def test_links_lead_to_the_wheels_files(wheels: str) -> None:
    given: dict[str, list[str]] = globals()[wheels]
    members = {member for wheel in given.values() for member in wheel}
    for entry in links.entries(given, OWN | OWN_13):
        place = posixpath.dirname(entry.path)
        target = posixpath.normpath(posixpath.join(place, entry.target))
        assert target.removeprefix("opt/venv/lib/python3.11/site-packages/") in members


def test_a_library_from_two_wheels_is_refused() -> None:
    twice = {**WHEELS, "nvidia-cublas": ["nvidia/cu13/lib/libcublas.so.12"]}
    with pytest.raises(IntegrityError, match=r"libcublas\.so\.12"):
        list(links.entries(twice, OWN))
