"""The files of the image itself, which no distribution may replace or hide."""

from __future__ import annotations

import posixpath

from images import image_paths
from images.build import base
from images.content import runtime_wheel
from images.inputs.compilers import BY_VERSION

_DIST_INFO = ("METADATA", "WHEEL", "RECORD", "INSTALLER", "entry_points.txt")


def of(compiler: str) -> list[str]:
    """List the virtual environment, `roll_runtime`, and paths before the compiler's on PATH.

    Args:
        compiler: the CUDA version of the compiler in the image.
    """
    venv = [entry.path for entry in base.venv()]
    return [*venv, *_runtime(), *hidden(compiler)]


def hidden(compiler: str) -> dict[str, str]:
    """Return the compiler's programs, by the path where another one comes before them on PATH."""
    files = BY_VERSION[compiler].files.values()
    programs = (path for path in files if path.startswith("bin/"))
    return {
        f"{image_paths.BIN}/{posixpath.basename(path)}": f"{image_paths.CUDA_HOME}/{path}"
        for path in programs
        if path.count("/") == 1
    }


def _runtime() -> list[str]:
    """List the files of the wheel of `roll_runtime`, without building it."""
    root = len(str(runtime_wheel.SOURCE)) + 1
    inside = [str(path)[root:] for path in runtime_wheel.source_files()]
    found = [path.partition("/")[2] for path in inside if path.startswith(("src/", "purelib/"))]
    info = f"roll_runtime-{runtime_wheel.version()}.dist-info"
    return [
        f"{image_paths.SITE_PACKAGES}/{path}"
        for path in (*found, *(f"{info}/{x}" for x in _DIST_INFO))
    ]
