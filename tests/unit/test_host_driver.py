"""Where a machine's NVIDIA driver is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.image import host_driver

X86_64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00"
ARM = X86_64[:18] + b"\xb7\x00"


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_driver, "_cached", lambda: iter(()))


def put(directory: Path, name: str, content: bytes = X86_64) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_bytes(content)
    return path


def test_only_the_drivers_libraries_of_this_platform(tmp_path: Path) -> None:
    real = put(tmp_path, "libcuda.so.580.1")
    (tmp_path / "libcuda.so.1").symlink_to(real.name)
    put(tmp_path, "libnvidia-ml.so.1")
    put(tmp_path, "libnvidia-ptxjitcompiler.so.1", ARM)
    put(tmp_path, "libnvidia-broken.so.1", b"text")
    (tmp_path / "libnvidia-gone.so.1").symlink_to("nowhere")
    put(tmp_path, "libcudart.so.12")
    put(tmp_path, "libcuda.so.1.txt")
    found = host_driver.libraries([tmp_path, tmp_path / "none"], {})
    assert set(found) == {"libcuda.so.1", "libcuda.so.580.1", "libnvidia-ml.so.1"}
    assert found["libcuda.so.1"] == real


def test_ld_library_path_goes_before_the_usual_places(tmp_path: Path) -> None:
    put(tmp_path / "usual", "libcuda.so.1")
    first = put(tmp_path / "named", "libcuda.so.1")
    environ = {"LD_LIBRARY_PATH": f":{tmp_path / 'none'}:{tmp_path / 'named'}"}
    assert host_driver.libraries([tmp_path / "usual"], environ) == {"libcuda.so.1": first}


def test_the_linkers_cache_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = put(tmp_path / "cached", "libcuda.so.1")
    put(tmp_path / "usual", "libcuda.so.1")
    monkeypatch.setattr(host_driver, "_cached", lambda: iter([cached]))
    assert host_driver.libraries([tmp_path / "usual"], {}) == {"libcuda.so.1": cached}


def test_a_machine_without_a_driver(tmp_path: Path) -> None:
    assert host_driver.libraries([tmp_path], {}) == {}
