"""Triton's cache manager: the image's kernels, then the user's. With Triton's real cache module."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from roll_runtime import image_kernels, triton_cache, triton_setting

KEY = "KEYOFAKERNEL"

# Triton's own base and manager, as 3.2 to 3.6 have them (`runtime/cache.py`), as far as needed.
TRITON = """
import json, os
from abc import ABC, abstractmethod
class CacheManager(ABC):
    def __init__(self, key): pass
    @abstractmethod
    def get_file(self, filename): pass
    @abstractmethod
    def put(self, data, filename, binary=True): pass
    @abstractmethod
    def get_group(self, filename): pass
    @abstractmethod
    def put_group(self, filename, group): pass
class FileCacheManager(CacheManager):
    def __init__(self, key, override=False, dump=False):
        self.cache_dir = os.path.join(os.environ["TRITON_CACHE_DIR"], key)
        self.options = (override, dump)
        os.makedirs(self.cache_dir, exist_ok=True)
    def get_file(self, filename):
        path = os.path.join(self.cache_dir, filename)
        return path if os.path.exists(path) else None
    def get_group(self, filename):
        path = self.get_file(f"__grp__{filename}")
        return json.load(open(path))["child_paths"] if path else None
    def put(self, data, filename, binary=True):
        path = os.path.join(self.cache_dir, filename)
        open(path, "wb" if isinstance(data, bytes) else "w").write(data)
        return path
    def put_group(self, filename, group):
        return self.put(json.dumps({"child_paths": group}), f"__grp__{filename}")
class OtherManager(FileCacheManager):
    pass
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType("triton.runtime.cache")
    exec(TRITON, vars(module))
    for name in ("triton", "triton.runtime"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "triton.runtime.cache", module)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "user"))
    monkeypatch.delenv(triton_setting.NEXT, raising=False)
    monkeypatch.setattr(image_kernels, "DIRECTORY", tmp_path / "kernels")
    monkeypatch.delitem(vars(triton_cache), "ImageCacheManager", raising=False)
    home, _, name = triton_setting.MANAGER.partition(":")
    yield getattr(importlib.import_module(home), name)
    vars(triton_cache).pop("ImageCacheManager", None)


def put(folder: Path, *names: str) -> None:
    """A kernel as Triton keeps it; the paths in its group are those of where it was compiled."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(name)
    paths = {name: f"/where/it/was/compiled/{KEY}/{name}" for name in names}
    (folder / "__grp__kernel.json").write_text(json.dumps({"child_paths": paths}))


def test_triton_accepts_the_class(manager: Any) -> None:
    """Triton 3.4 and later want one of this name among the bases."""
    assert any(item.__name__ == "CacheManager" for item in manager.mro())


def test_the_images_kernel_is_found_and_nothing_written(manager: Any, tmp_path: Path) -> None:
    image = tmp_path / "kernels" / "triton" / KEY
    put(image, "kernel.json", "kernel.cubin")
    cache = manager(KEY)
    names = ("kernel.json", "kernel.cubin")
    assert cache.get_group("kernel.json") == {name: str(image / name) for name in names}
    assert cache.get_file("kernel.cubin") == str(image / "kernel.cubin")
    assert cache.has_file("kernel.cubin")
    assert not (tmp_path / "user").exists()


def test_what_the_image_lacks_is_the_users(manager: Any, tmp_path: Path) -> None:
    put(tmp_path / "kernels" / "triton" / "ANOTHER", "kernel.json")
    cache = manager(KEY)
    assert cache.get_file("kernel.cubin") is None
    assert cache.get_group("kernel.json") is None
    path = cache.put(b"code", "kernel.cubin", binary=True)
    cache.put_group("kernel.json", {"kernel.cubin": path})
    assert path == str(tmp_path / "user" / KEY / "kernel.cubin")
    assert manager(KEY).get_group("kernel.json") == {"kernel.cubin": path}
    assert cache.cache_dir == str(tmp_path / "user" / KEY)


@pytest.mark.parametrize("damage", ["missing file", "no group", "not JSON"])
def test_a_damaged_kernel_of_the_image_is_compiled(
    manager: Any, tmp_path: Path, damage: str
) -> None:
    image = tmp_path / "kernels" / "triton" / KEY
    put(image, "kernel.json", "kernel.cubin")
    if damage == "missing file":
        (image / "kernel.cubin").unlink()
    elif damage == "no group":
        (image / "__grp__kernel.json").unlink()
    else:
        (image / "__grp__kernel.json").write_text("{")
    assert manager(KEY).get_group("kernel.json") is None


@pytest.mark.parametrize("options", [{"override": True}, {"dump": True}])
def test_override_and_dump_are_upstreams(
    manager: Any, tmp_path: Path, options: dict[str, bool]
) -> None:
    put(tmp_path / "kernels" / "triton" / KEY, "kernel.json")
    cache = manager(KEY, **options)
    assert cache.get_file("kernel.json") is None
    assert cache.options == (options.get("override", False), options.get("dump", False))


def test_the_manager_behind_it(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(triton_setting.NEXT, "triton.runtime.cache:OtherManager")
    assert type(manager(KEY)._next).__name__ == "OtherManager"


SGLANGS = "sglang.srt.utils:CustomCacheManager"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {triton_setting.VARIABLE: triton_setting.MANAGER}),
        (
            {triton_setting.VARIABLE: SGLANGS},
            {triton_setting.VARIABLE: triton_setting.MANAGER, triton_setting.NEXT: SGLANGS},
        ),
        ({triton_setting.VARIABLE: "own:Manager"}, {triton_setting.VARIABLE: "own:Manager"}),
    ],
)
def test_who_is_asked(
    before: dict[str, str],
    after: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_kernels, "DIRECTORY", tmp_path)
    environ = dict(before)
    triton_setting.settle(environ)
    assert environ == before, "the image has no kernels"
    (tmp_path / "triton").mkdir()
    for _ in range(2):
        triton_setting.settle(environ)
        assert environ == after
