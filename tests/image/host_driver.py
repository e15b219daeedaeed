"""This machine's NVIDIA driver: its libraries and its program, to be put into a root file system.

Container engines leave that to NVIDIA's hook. Where the driver lies differs: most machines have it
in the dynamic linker's cache, some only in a directory that LD_LIBRARY_PATH names.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

DIRECTORIES = (
    Path("/usr/local/nvidia/lib64"),
    Path("/usr/lib/x86_64-linux-gnu"),
    Path("/usr/lib64"),
    Path("/usr/lib/wsl/lib"),
)
PROGRAM = "nvidia-smi"

_LIBRARY = re.compile(r"lib(cuda|nvidia-[^/ ]*)\.so(\.[0-9.]*)?$")
_X86_64 = b"\x7fELF\x02", b"\x3e\x00"  # 64-bit, and the machine at byte 18


def libraries(
    directories: Iterable[Path] = DIRECTORIES, environ: Mapping[str, str] = os.environ
) -> dict[str, Path]:
    """The driver's libraries by file name, each with the real file behind it.

    The dynamic linker's cache goes first, then LD_LIBRARY_PATH, then the directories: what a
    program on this machine would load.
    """
    places = [Path(part) for part in environ.get("LD_LIBRARY_PATH", "").split(":") if part]
    found: dict[str, Path] = {}
    for path in (*_cached(), *_in([*places, *directories])):
        if path.name not in found and _is_x86_64(path):
            found[path.name] = path.resolve()
    return found


def program() -> Path | None:
    """The driver's own program, where there is one."""
    path = shutil.which(PROGRAM, path=f"{os.environ.get('PATH', '')}:/usr/local/nvidia/bin")
    return Path(path).resolve() if path else None


def _cached() -> Iterator[Path]:
    """The driver's libraries that the dynamic linker's cache lists."""
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    ldconfig = shutil.which("ldconfig", path=search)
    if ldconfig is None:
        return
    listing = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False).stdout
    for line in listing.splitlines():
        path = Path(line.rpartition(" => ")[2].strip())
        if " => " in line and _LIBRARY.fullmatch(path.name):
            yield path


def _in(directories: Iterable[Path]) -> Iterator[Path]:
    for directory in directories:
        if directory.is_dir():
            yield from sorted(path for path in directory.iterdir() if _LIBRARY.match(path.name))


def _is_x86_64(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        return False
    return head.startswith(_X86_64[0]) and head[18:20] == _X86_64[1]
