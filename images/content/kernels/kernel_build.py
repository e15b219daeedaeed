"""Kernels, compiled by the image's own compilers in the base's root file system.

FlashInfer compiles a module when it is first used, unless a library of its name is in `data/aot` of
its package: that one is loaded, whatever the times of files, and no compiler runs
(`flashinfer/jit/core.py`, `JitSpec.is_aot`, from 0.2.9 on). SGLang's own and those in Triton are
found by roll_runtime (`roll_runtime.jit_kernels`, `roll_runtime.triton_cache`).
"""

from __future__ import annotations

import errno
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from images import image_paths
from images.content.cuda import stub_library, toolkit
from images.content.debian import confined, rootfs
from images.content.kernels import kernel_inputs
from images.content.kernels.kernel_inputs import Kernels
from images.content.sdist import sandbox
from images.errors import BuildError, IntegrityError, StoreError, ToolError
from images.formats import wheel_file
from images.formats.wheel_changes import Changes
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.oci.layer.entry import Entry, of_bytes

_SITE = image_paths.SITE_PACKAGES
_HEADERS = re.compile(
    re.escape(_SITE) + r"/(?:torch|nvidia/\w+|cusparselt)/include/.+"
    r"|" + re.escape(_SITE) + r"/nvidia/\w+/lib/libcudart\.so(?:\.\d+)*"
    r"|" + re.escape(_SITE) + r"/torch-[^/]+\.dist-info/METADATA"
    # What inductor's kernels in Triton call.
    r"|" + re.escape(_SITE) + r"/torch/_inductor/runtime/triton_(?:compat|helpers)\.py"
)
_RESULTS = re.compile(
    rf"\./(?P<path>(?:{re.escape(_SITE)}/flashinfer/data/aot"
    rf"|{re.escape(image_paths.PREFIX)}/kernels/tvm-ffi)/(?!\.)[^/]+/(?!\.)[^/]+\.so"
    rf"|{re.escape(image_paths.PREFIX)}/kernels/triton/[A-Z2-7]+/\w+\.[\w.-]+)"
)
"""The files that are kept: what else a worker leaves behind has no place in the image."""

_TORCH_LIBRARIES = ("c10", "c10_cuda", "torch", "torch_cpu", "torch_cuda")
_TORCH_CONFIG = f"{_SITE}/torch/share/cmake/Torch/TorchConfig.cmake"
_OLD_ABI = "_GLIBCXX_USE_CXX11_ABI=0"
_WORKERS = kernel_inputs.OF_FLASHINFER.parent
_INPUT = "kernels-build.tar"


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that kernels are compiled from, all of them in the download cache.

    Attributes:
        whole: the wheels of FlashInfer and of its helpers, and of SGLang and Triton for theirs.
        headers: the wheels of torch and of NVIDIA, of which the headers are used.
        torch: the version of torch.
        links: the links of the CUDA libraries and headers below /usr/local/cuda.
        tools: the compiler.
        base_debs: the Debian base.
        misrecorded: those of the wheels whose RECORD may be wrong.
        changes: the changes to wheels that the image has, by wheel: Triton's keys depend on them.
    """

    whole: Sequence[Path]
    headers: Sequence[Path]
    torch: str
    links: Sequence[Entry]
    tools: Toolkit
    base_debs: Sequence[Deb]
    misrecorded: frozenset[Path] = frozenset()
    changes: Mapping[Path, Changes] = field(default_factory=dict)


def entries(kernels: Kernels, sources: Sources, cache: Path, workdir: Path) -> Iterator[Entry]:
    """Compile the kernels, and yield their files, sorted.

    Args:
        kernels: the modules.
        sources: what they are compiled from.
        cache: the download cache.
        workdir: an empty directory; about 2 GB.

    Raises:
        IntegrityError: a wheel is damaged or lacks what compiling needs.
        ToolError: compiling failed; the message ends with the compiler's last lines.
        StoreError: the disk is full.
    """
    for path, content in sorted(_compile(kernels, sources, cache, workdir).items()):
        yield of_bytes(path, content, 0o755 if path.endswith(".so") else 0o644)


def _compile(kernels: Kernels, sources: Sources, cache: Path, workdir: Path) -> dict[str, bytes]:
    """Return what is compiled by its path in the image."""
    files = workdir / _INPUT
    with ExitStack() as opened:
        _pack(_files(kernels, sources, cache, opened), files)
    job = confined.Job(
        files,
        ("sh", "-ec", "; ".join(_commands(kernels))),
        results="kernels",
        destination="/",
        environment={
            "CUDA_HOME": f"/{image_paths.CUDA_HOME}",
            "CXX": f"{confined.DIRECTORY}/{kernel_inputs.CXX.name}",
            "LIBRARY_PATH": f"/{image_paths.CUDA_HOME}/lib64/stubs",
            "PATH": f"/{image_paths.BIN}:/{image_paths.CUDA_HOME}/bin:/usr/bin:/bin",
            "PYTHONPATH": f"/{_SITE}",
        },
        installed=False,
    )
    output, log = confined.run(job, sources.base_debs, cache, workdir)
    found = _results(output)
    if not found:
        raise _failed(kernels, log)
    return found


def _failed(kernels: Kernels, log: str) -> BuildError:
    tail = "\n".join(log.splitlines()[-20:])
    message = f"the kernels {', '.join(kernels.modules)} cannot be compiled:\n{tail}"
    if os.strerror(errno.ENOSPC) in log:
        return StoreError(message, remedy=sandbox.NO_ROOM)
    return ToolError(
        message,
        remedy="remove the module from `kernels:` in matrix.yaml, or lock the versions with which "
        "it was compiled before",
    )


def _commands(kernels: Kernels) -> Iterator[str]:
    """Yield the workers' command lines."""
    place = confined.DIRECTORY
    python = f"/usr/bin/python{image_paths.PYTHON} -s -P -B {place}"
    if kernels.flashinfer:
        yield f"{python}/{kernel_inputs.OF_FLASHINFER.name} {place}"
    for gpu, names in kernels.sglang:
        yield f"{python}/{kernel_inputs.OF_SGLANG.name} {place} {gpu} {' '.join(names)}"
    if kernels.triton:
        yield f"{python}/{kernel_inputs.OF_TRITON.name} {place}"


def _files(kernels: Kernels, sources: Sources, cache: Path, opened: ExitStack) -> Iterator[Entry]:
    """Yield the files of the job, at their paths in the root."""
    yield from _compiler(sources.tools, cache)
    yield from sources.links

    def installed(path: Path) -> Iterator[Entry]:
        misrecorded = path in sources.misrecorded
        wheel = opened.enter_context(wheel_file.opened(path, misrecorded=misrecorded))
        return wheel_file.entries(wheel, changes=sources.changes.get(path))

    for path in sources.whole:
        yield from installed(path)
    torch_config = ""
    for path in sources.headers:
        for entry in installed(path):
            if _HEADERS.fullmatch(entry.path):
                yield entry
            elif entry.path == _TORCH_CONFIG:
                torch_config = _content(entry).decode()
    if not torch_config:
        raise IntegrityError(f"torch {sources.torch}: the wheel has no /{_TORCH_CONFIG}")
    for name in _TORCH_LIBRARIES:
        # The linker needs their names alone: Python has loaded them before a kernel is.
        library = stub_library.shared_library(f"lib{name}.so", [])
        yield of_bytes(f"{_SITE}/torch/lib/lib{name}.so", library, 0o755)
    directory = confined.DIRECTORY.removeprefix("/")
    wanted = _wanted(kernels, sources.torch, cxx11_abi=_OLD_ABI not in torch_config)
    yield of_bytes(f"{directory}/kernels.json", json.dumps(wanted).encode())
    for path in kernel_inputs.programs(kernels):
        inside = directory if path.parent == _WORKERS else f"{_SITE}/roll_runtime"
        yield of_bytes(f"{inside}/{path.name}", path.read_bytes())


def _compiler(tools: Toolkit, cache: Path) -> Iterator[Entry]:
    """Yield the compiler, with a script in nvcc's place, and what that script loads."""
    nvcc = f"{image_paths.CUDA_HOME}/bin/nvcc"
    for entry in toolkit.entries(tools, cache):
        yield replace(entry, path=f"{nvcc}.real") if entry.path == nvcc else entry
    yield of_bytes(nvcc, kernel_inputs.NVCC.read_bytes(), 0o755)
    directory = confined.DIRECTORY.removeprefix("/")
    yield of_bytes(f"{directory}/{kernel_inputs.CXX.name}", kernel_inputs.CXX.read_bytes(), 0o755)
    yield of_bytes(f"{directory}/getpid.so", stub_library.shared_library("getpid.so", ["getpid"]))


def _wanted(kernels: Kernels, torch: str, *, cxx11_abi: bool) -> dict[str, Any]:
    """Return what the workers read."""
    recorded = kernel_inputs.read(kernels.recording) if kernels.recording else {}
    return {
        "cuda_home": f"/{image_paths.CUDA_HOME}",
        "cxx11_abi": cxx11_abi,
        "flashinfer": {
            "architectures": list(kernels.architectures),
            "modules": list(kernels.flashinfer),
        },
        "prefix": f"/{image_paths.PREFIX}",
        "sglang": recorded.get("sglang", []),
        "site_packages": f"/{_SITE}",
        "torch": torch,
        "triton": {"gpus": list(kernels.triton), "recorded": recorded.get("triton", [])},
    }


def _pack(entries: Iterable[Entry], path: Path) -> None:
    """Write files and links as a tar; unpacking it makes their directories."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.mode, member.mtime, member.size = entry.mode, rootfs.EPOCH, entry.size
            if entry.kind == "symlink":
                member.type, member.linkname = tarfile.SYMTYPE, entry.target
                tar.addfile(member)
                continue
            with entry.open() as stream:
                tar.addfile(member, cast(IO[bytes], _Whole(stream)))


class _Whole(NamedTuple):
    """A stream as tarfile needs it: what it reads is as long as it asks for."""

    stream: IO[bytes]

    def read(self, size: int) -> bytes:
        pieces = []
        while size and (piece := self.stream.read(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


def _results(output: Path) -> dict[str, bytes]:
    """Return the files that the workers left, by their path in the image."""
    found = {}
    with tarfile.open(output) as tar:
        for member in tar:
            named = _RESULTS.fullmatch(member.name)
            content = tar.extractfile(member) if named and member.isreg() else None
            if named and content:
                found[named["path"]] = content.read()
    return found


def _content(entry: Entry) -> bytes:
    with entry.open() as stream:
        return stream.read()
