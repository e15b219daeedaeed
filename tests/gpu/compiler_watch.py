"""Which compilers run in an image: each is replaced by a script that notes its command.

A look at the process table, however often, can miss a short command; a script in the compiler's
own place cannot, whatever path it is called by. It is done in a started box, whose files go with
it. What needs no process (NVRTC, ptxas in a library) is seen by the files that it leaves, which
`roll_runtime.compiled` lists.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from tests.image.box import Box

REPLACE = r"""
import json, os, pathlib, shlex, sys, sysconfig
NAMES = ("nvcc", "cicc", "ninja", "g++", "c++", "gcc", "cc", "clang++", "clang")
log, cuda = sys.argv[1], os.environ.get("CUDA_HOME", "/usr/local/cuda")
site = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else sysconfig.get_path("purelib"))
folders = [*os.environ["PATH"].split(":"), f"{cuda}/bin", f"{cuda}/nvvm/bin"]
for pattern in ("*/bin", "*/*/bin", "*/*/*/bin"):  # ninja's, NVIDIA's and Triton's wheels
    folders += site.glob(pattern)
found = {}
for name in NAMES:
    for folder in folders:
        path = pathlib.Path(folder, name)
        if path.is_file():
            found.setdefault(path.resolve(), name)
for path, name in found.items():
    mode = path.stat().st_mode
    real = path.rename(f"{path}.real")
    path.write_text(
        f'#!/bin/sh\necho {shlex.quote(name)} "$*" >> {shlex.quote(log)}\n'
        f'exec {shlex.quote(str(real))} "$@"\n'
    )
    path.chmod(mode | 0o111)
open(log, "a").close()
os.chmod(log, 0o666)
print(json.dumps({str(path): name for path, name in found.items()}))
"""

_SOURCES = (".c", ".cc", ".cpp", ".cu", ".cxx", ".gpu", ".ii", ".o")


class Command(NamedTuple):
    """One run of a compiler."""

    program: str
    arguments: tuple[str, ...]

    @property
    def compiles(self) -> bool:
        """Whether it is more than a question such as `nvcc --version`, which FlashInfer asks."""
        if self.program == "ninja":
            return "--version" not in self.arguments
        if "-E" in self.arguments:  # it preprocesses for nvcc, which counts by itself
            return False
        return any(item.endswith(_SOURCES) for item in self.arguments)

    @property
    def is_of_nvcc(self) -> bool:
        """Whether nvcc runs it, which counts by itself: its names are of temporary files."""
        return "-D__NVCC__" in self.arguments

    @property
    def output(self) -> str:
        """The name of what it makes."""
        if "-o" not in self.arguments[:-1]:
            return "unnamed"
        path = PurePosixPath(self.arguments[self.arguments.index("-o") + 1])
        return path.name.partition(".")[0]


class Watch:
    """The compilers of a started box.

    Args:
        box: the box, whose files are changed.
    """

    def __init__(self, box: Box) -> None:
        self._box, self._log = box, f"/tmp/compilers-{uuid.uuid4().hex}"
        self.programs: dict[str, str] = box.ask(REPLACE, self._log)

    def commands(self) -> list[Command]:
        """Return what was compiled since this was asked before."""
        text = self._box.run("cat %s && : > %s", self._log, self._log)
        return [command for command in parse(text) if command.compiles]

    def of_the_driver(self, home: str) -> dict[str, Any]:
        """Return what the driver compiled from PTX: the files of its cache below a HOME."""
        text = self._box.run("find %s -path '*/.nv/ComputeCache/*' -type f", home)
        files = [PurePosixPath(line).name for line in text.splitlines()]
        # `index` is there as soon as the cache is.
        count = len([name for name in files if name != "index"])
        return {"driver": {"count": count, "names": ["PTX"]}} if count else {}


def parse(text: str) -> Iterable[Command]:
    """Return the commands of a log."""
    for line in text.splitlines():
        program, *arguments = line.split(" ")
        yield Command(program, tuple(arguments))


def listed(commands: Iterable[Command], compiled: dict[str, Any]) -> dict[str, Any]:
    """Return what was compiled, by compiler and program: counts and names, as smoke lists it."""
    found = dict(compiled)
    outputs: dict[str, list[str]] = {}
    for command in commands:
        if command.is_of_nvcc:
            continue
        outputs.setdefault(command.program, []).append(command.output)
    for program, names in sorted(outputs.items()):
        found[program] = {"count": len(names), "names": sorted(set(names))}
    return found


ALLOWED = ("triton", "inductor", "deep_gemm", "gcc", "driver", "other")
"""What may be expected: kernels that need a GPU, Triton's helpers in C, PTX."""


def faults(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return what was compiled beyond what is expected, a line each.

    DeepGEMM compiles with nvcc, a kernel by a run; nothing else may.
    """
    lines = []
    for owner, item in found.items():
        known = dict(expected.get(owner, {}) if owner in ALLOWED else {})
        if owner in ("nvcc", "cicc"):
            known = {**expected.get("deep_gemm", {}), "names": item["names"]}
        new = sorted(set(item["names"]) - set(known.get("names", ())))
        if new:
            lines.append(f"{owner}: {', '.join(new)}")
        elif item["count"] > known.get("count", 0):
            lines.append(f"{owner}: {item['count']} instead of {known.get('count', 0)}")
    return lines
