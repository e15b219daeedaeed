"""FlashInfer's kernels, compiled by the image's own compiler in the base's root file system.

FlashInfer compiles a module when it is first used, unless a library of its name is in `data/aot` of
its package: that one is loaded, whatever the times of files, and no compiler runs
(`flashinfer/jit/core.py`, `JitSpec.is_aot`, from 0.2.9 on).
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from images import format_numbers, image_paths
from images.content import runtime_wheel
from images.content.cuda import stub_library, toolkit
from images.content.debian import confined, rootfs
from images.errors import ToolError
from images.formats import wheel_file
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.oci.layer.entry import Entry, of_bytes
from images.util import sha256

FLASHINFER = "flashinfer-python"
HELPERS = frozenset(
    {
        "apache-tvm-ffi",
        "filelock",
        "jinja2",
        "markupsafe",
        "ninja",
        "packaging",
        "typing-extensions",
    }
)
"""Distributions whose code runs when kernels are compiled: FlashInfer imports them."""

_SITE = image_paths.SITE_PACKAGES
_OF_FLASHINFER = Path(__file__).with_name("flashinfer_worker.py")
_OF_SGLANG = Path(__file__).with_name("sglang_worker.py")
_WORKERS = (Path(__file__).with_name("stand_ins.py"), _OF_FLASHINFER, _OF_SGLANG)
_NAMING = ("image_kernels.py", "jit.py", "jit_kernels.py")
"""The modules of roll_runtime that name SGLang's kernels, and correct one."""

_HEADERS = re.compile(
    re.escape(_SITE) + r"/(?:torch|nvidia/\w+|cusparselt)/include/.+"
    r"|" + re.escape(_SITE) + r"/nvidia/\w+/lib/libcudart\.so(?:\.\d+)*"
    r"|" + re.escape(_SITE) + r"/torch-[^/]+\.dist-info/METADATA"
)
_TORCH_LIBRARIES = ("c10", "c10_cuda", "torch", "torch_cpu", "torch_cuda")
_TORCH_CONFIG = f"{_SITE}/torch/share/cmake/Torch/TorchConfig.cmake"
_OLD_ABI = "_GLIBCXX_USE_CXX11_ABI=0"
_EPOCH = rootfs.EPOCH
_INPUT = "kernels-build.tar"


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of an image.

    Attributes:
        flashinfer: the names of FlashInfer's modules, as in matrix.yaml.
        architectures: the targets that they are compiled for (`architectures.compiled_for`).
        sglang: the names of SGLang's own kernels, as in matrix.yaml.
        gpus: the compute capabilities that those are compiled for.
    """

    flashinfer: tuple[str, ...]
    architectures: tuple[str, ...]
    sglang: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that kernels are compiled from, all of them in the download cache.

    Attributes:
        whole: the wheels of FlashInfer, of `HELPERS`, and of SGLang for kernels of its own.
        headers: the wheels of torch and of NVIDIA, of which the headers are used.
        torch: the version of torch.
        links: the links of the CUDA libraries and headers below /usr/local/cuda.
        tools: the compiler.
        base_debs: the Debian base.
    """

    whole: Sequence[Path]
    headers: Sequence[Path]
    torch: str
    links: Sequence[Entry]
    tools: Toolkit
    base_debs: Sequence[Deb]


def key(kernels: Kernels, tools: Toolkit, base_debs: Sequence[Deb]) -> str:
    """Return the digest of all inputs of the kernels but the wheels; hexadecimal SHA-256."""
    return sha256.of_json(
        {
            "base": rootfs.key(base_debs),
            "flashinfer": [*kernels.architectures, *kernels.flashinfer],
            "format": format_numbers.KERNELS,
            "programs": [sha256.of_file(path) for path in _programs(kernels)],
            "sglang": [*kernels.gpus, *kernels.sglang],
            "toolkit": toolkit.key(tools),
        }
    )


def _programs(kernels: Kernels) -> list[Path]:
    naming = [runtime_wheel.SOURCE / "src/roll_runtime" / name for name in _NAMING]
    return [*_WORKERS, *(naming if kernels.sglang else ())]


def entries(kernels: Kernels, sources: Sources, cache: Path, workdir: Path) -> Iterator[Entry]:
    """Compile the kernels, and yield their libraries, sorted.

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
        yield of_bytes(path, content, 0o755)


def _compile(kernels: Kernels, sources: Sources, cache: Path, workdir: Path) -> dict[str, bytes]:
    """Return the compiled libraries by their path in the image."""
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
            # A library names those of torch that it needs, though the linker finds no symbol of
            # theirs used: it has stubs without any.
            "CXX": "g++ -Wl,--no-as-needed",
            "LIBRARY_PATH": f"/{image_paths.CUDA_HOME}/lib64/stubs",
            "PATH": f"/{image_paths.BIN}:/{image_paths.CUDA_HOME}/bin:/usr/bin:/bin",
            "PYTHONPATH": f"/{_SITE}",
        },
        installed=False,
    )
    output, log = confined.run(job, sources.base_debs, cache, workdir)
    found = _results(output)
    if not found:
        tail = "\n".join(log.splitlines()[-20:])
        raise ToolError(
            f"the kernels {', '.join((*kernels.flashinfer, *kernels.sglang))} cannot be compiled:"
            f"\n{tail}",
            remedy="remove one from `kernels:` in matrix.yaml, or pin the versions that it "
            "was compiled with",
        )
    return found


def _commands(kernels: Kernels) -> Iterator[str]:
    """Yield the workers' command lines."""
    place = confined.DIRECTORY
    python = f"/usr/bin/python{image_paths.PYTHON} -s -P -B {place}"
    if kernels.flashinfer:
        yield f"{python}/{_OF_FLASHINFER.name} {place}"
    if kernels.sglang:
        for gpu in kernels.gpus:
            yield f"{python}/{_OF_SGLANG.name} {place} {gpu}"


def _files(kernels: Kernels, sources: Sources, cache: Path, opened: ExitStack) -> Iterator[Entry]:
    """Yield the files of the job, at their paths in the root."""
    yield from toolkit.entries(sources.tools, cache)
    yield from sources.links
    for path in sources.whole:
        yield from wheel_file.entries(opened.enter_context(wheel_file.opened(path)))
    abi = ""
    for path in sources.headers:
        for entry in wheel_file.entries(opened.enter_context(wheel_file.opened(path))):
            if _HEADERS.fullmatch(entry.path):
                yield entry
            elif entry.path == _TORCH_CONFIG:
                abi = _content(entry).decode()
    for name in _TORCH_LIBRARIES:  # the linker wants their names only: they are loaded before
        library = stub_library.shared_library(f"lib{name}.so", [])
        yield of_bytes(f"{_SITE}/torch/lib/lib{name}.so", library, 0o755)
    wanted = {
        "cxx11_abi": _OLD_ABI not in abi,
        "flashinfer": {
            "architectures": list(kernels.architectures),
            "modules": list(kernels.flashinfer),
        },
        "sglang": {"kernels": list(kernels.sglang)},
        "torch": sources.torch,
    }
    directory = confined.DIRECTORY.removeprefix("/")
    yield of_bytes(f"{directory}/kernels.json", json.dumps(wanted).encode())
    for path in _programs(kernels):
        inside = directory if path in _WORKERS else f"{_SITE}/roll_runtime"
        yield of_bytes(f"{inside}/{path.name}", path.read_bytes())


def _pack(entries: Iterable[Entry], path: Path) -> None:
    """Write entries as a tar, without the directories that are in the root already."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.mode, member.mtime, member.size = entry.mode, _EPOCH, entry.size
            if entry.kind == "symlink":
                member.type, member.linkname = tarfile.SYMTYPE, entry.target
                tar.addfile(member)
                continue
            with entry.open() as stream:
                tar.addfile(member, stream)


def _results(output: Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(output) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(".so"):
                content = tar.extractfile(member) or io.BytesIO()
                found[member.name.removeprefix("./")] = content.read()
    return found


def _content(entry: Entry) -> bytes:
    with entry.open() as stream:
        return stream.read()
