"""Triton's cache manager that has the image's kernels before the user's.

Triton 3.2 to 3.6 ask a cache manager for each kernel and each helper in C by a key that holds all
that decides it: Triton itself, the source, the options, the GPU. The image has them by the same
key, in directories as Triton writes them. What is not there is asked of the manager that would
have been used without this one (`triton_setting`). Imports Triton, which imports this.
"""

import importlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from roll_runtime import image_kernels
from roll_runtime.triton_setting import NEXT


def __getattr__(name: str) -> Any:
    """Return `ImageCacheManager`, made when Triton asks for it: Triton's class is one of its bases.

    Imported at the top, Triton would be imported by whoever lists roll_runtime's modules.
    """
    if name != "ImageCacheManager":
        raise AttributeError(name)
    made = type(name, (ImageFirst, _triton_cache().CacheManager), {})
    globals()[name] = made
    return made


def _triton_cache() -> Any:
    return importlib.import_module("triton.runtime.cache")


class ImageFirst:
    """Reads the image's kernels, then the user's; writes the user's.

    Args:
        key: the directory's name.
        override: the manager is of kernels that replace those of the cache: the image has none.
        dump: the manager is of what is written for people to read: the image has none.
    """

    def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
        self.key = key
        self._options = {"override": override, "dump": dump}
        folder = None if override or dump else image_kernels.directory("triton")
        self._image = folder / key if folder is not None else None

    @cached_property
    def _next(self) -> Any:
        # Made when it is needed, because it makes a directory: a kernel of the image needs none.
        module, _, name = os.environ.get(NEXT, "").partition(":")
        if not name:
            return _triton_cache().FileCacheManager(self.key, **self._options)
        return getattr(importlib.import_module(module), name)(self.key, **self._options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_next":
            raise AttributeError(name)
        return getattr(self._next, name)

    def get_file(self, filename: str) -> Any:
        """Return a file's path, or `None`."""
        path = self._image / filename if self._image is not None else None
        return str(path) if path is not None and path.is_file() else self._next.get_file(filename)

    def has_file(self, filename: str) -> bool:
        """Return whether a file is there."""
        return self.get_file(filename) is not None

    def get_group(self, filename: str) -> Any:
        """Return the files of a kernel by name, or `None`."""
        return self._image_group(filename) or self._next.get_group(filename)

    def _image_group(self, filename: str) -> dict[str, str]:
        """Return the kernel's files in the image; empty unless all are there.

        The group's file holds the paths where they were compiled: their names count.
        """
        if self._image is None:
            return {}
        try:
            data = json.loads((self._image / f"__grp__{filename}").read_text(encoding="utf-8"))
            names = [Path(name).name for name in data["child_paths"]]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        paths = {name: self._image / name for name in names}
        complete = all(path.is_file() for path in paths.values())
        return {name: str(path) for name, path in paths.items()} if complete else {}

    def put(self, data: Any, filename: str, binary: bool = True) -> Any:
        """Keep a file in the user's cache and return its path."""
        return self._next.put(data, filename, binary)

    def put_group(self, filename: str, group: dict[str, str]) -> Any:
        """Note in the user's cache which files belong to a kernel."""
        return self._next.put_group(filename, group)
