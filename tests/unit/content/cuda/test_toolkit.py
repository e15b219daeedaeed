from __future__ import annotations

import ctypes
import io
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from images.content.cuda import stub_library, toolkit
from images.errors import IntegrityError
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


def test_headers_in_the_targets_own_wheels_are_not_copied(tmp_path: Path) -> None:
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


# -- the stub of the driver -----------------------------------------------------------------------


def test_the_drivers_functions_come_from_its_header() -> None:
    names = [
        "cuInit",
        "cuLaunchKernel",
        "cuLaunchKernel_ptsz",
        "cuMemAlloc",
        "cuMemAlloc_v2",
        "cuMemcpy",
        "cuMemcpy_ptds",
    ]
    assert toolkit.driver_stub(CUDA_H) == stub_library.shared_library("libcuda.so.1", names)


def test_driver_stub_reports_that_it_is_a_stub(tmp_path: Path) -> None:
    path = tmp_path / "libcuda.so"
    path.write_bytes(toolkit.driver_stub(CUDA_H))
    library = ctypes.CDLL(str(path))
    assert library.cuInit(0) == 34  # CUDA_ERROR_STUB_LIBRARY
    assert library.cuMemAlloc_v2(0, 0) == 34
    with pytest.raises(AttributeError):
        library.cuDeviceGet  # noqa: B018
