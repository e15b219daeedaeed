"""The CUDA compiler under /usr/local/cuda: SGLang's kernels are compiled when they are first used.

For CUDA 12 no single source has all of it: Debian packages the programs, NVIDIA's wheels hold the
headers, and the libraries are those that torch brought. Two layers come of it: the compiler with
its headers, the same for every CUDA 12 target, and links to the libraries and headers of one
target's wheels. No library is ever copied.

CUDA 13 needs another `VERSION` with other sources: its wheels hold the whole compiler.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import relpath

from images import apt, deb, debfile, elfstub, fetch, layout, lockfile
from images import lock as locks
from images.deb import Deb
from images.entry import Entry, of_bytes, of_symlink
from images.errors import IntegrityError, LockError
from images.lock import Distribution
from images.mirror import DEBIAN, Mirror

VERSION = "12.4"
"""Serves Ampere, Ada and Hopper (sm_80 to sm_90a); Blackwell needs the compiler of 12.8."""

LOCK = Path(__file__).parent / "locks" / f"cuda-{VERSION}.txt"
RENEW = "python build.py lock --base"

FORMAT = "1"
"""Part of the compiler layer's key. Raise it when `entries` makes other bytes of the same files."""

LINKS_FORMAT = "1"
"""Part of the links layer's key. Raise it when `link_entries` links the same files otherwise."""

_RECIPE = Path(__file__).parent / "recipe" / f"cuda-{VERSION}"
_HOME = layout.CUDA_HOME
_LOADER_DIRECTORY = "usr/lib/x86_64-linux-gnu"

# The last CUDA 12 compiler that Debian has. Its binaries need glibc 2.34; bookworm has 2.36.
_SUITES = (apt.Suite(DEBIAN, "trixie", "non-free"),)
_DEBS = {"nvidia-cuda-toolkit": "12.4.131~12.4.1-2"}
_WHEELS = (
    "nvidia-cuda-nvcc-cu12==12.4.131",  # include/crt of the same compiler
    "nvidia-cuda-runtime-cu12==12.4.127",  # cuda_runtime.h, cuda_fp16.h … that fit the compiler
    "nvidia-cuda-cccl-cu12==12.5.39.post1",  # cub, thrust, libcu++; 12.4.127 lacks nv/target
)

_PROGRAMS = {
    "usr/lib/nvidia-cuda-toolkit/bin/nvcc": "bin/nvcc",
    "usr/lib/nvidia-cuda-toolkit/bin/cicc": "nvvm/bin/cicc",
    "usr/lib/nvidia-cuda-toolkit/bin/crt/link.stub": "bin/crt/link.stub",
    "usr/lib/nvidia-cuda-toolkit/bin/crt/prelink.stub": "bin/crt/prelink.stub",
    "usr/lib/nvidia-cuda-toolkit/libdevice/libdevice.10.bc": "nvvm/libdevice/libdevice.10.bc",
    "usr/bin/__nvcc_device_query": "bin/__nvcc_device_query",  # nvcc -arch=native
    "usr/bin/bin2c": "bin/bin2c",
    "usr/bin/cudafe++": "bin/cudafe++",
    "usr/bin/cuobjdump": "bin/cuobjdump",  # DeepGEMM reads a kernel's symbols with it
    "usr/bin/fatbinary": "bin/fatbinary",
    "usr/bin/nvdisasm": "bin/nvdisasm",  # cuobjdump calls it
    "usr/bin/nvlink": "bin/nvlink",
    "usr/bin/ptxas": "bin/ptxas",
    "usr/share/doc/nvidia-cuda-toolkit/copyright": "EULA.txt",
}

# nvcc links the static runtime unless told otherwise, which FlashInfer does not do, and that is in
# no wheel. A linker script in its place links the shared one, of which the image has exactly one.
_STATIC_RUNTIME = (
    b"/* GNU ld script: the shared runtime in the static one's place. */\nINPUT(-lcudart)\n"
)

# Older cuSPARSELt wheels have no `nvidia` directory above them.
_PACKAGE = r"(?:nvidia/)?(?P<package>(?<=/)\w+|cusparselt)"
_LIBRARY = re.compile(
    _PACKAGE + r"/lib/(?P<file>(?P<link>lib[\w.+-]+?\.so)(?P<version>(?:\.\d+)*))"
)
_HEADER = re.compile(_PACKAGE + r"/include/(?P<file>.+)")
_OWN_HEADERS = frozenset({"cuda_runtime", "cuda_nvcc", "cuda_cccl"})


@dataclass(frozen=True, slots=True)
class Toolkit:
    """The locked sources of the compiler.

    Attributes:
        version: of CUDA, e.g. `12.4`.
        debs: Debian packages with the programs.
        wheels: distributions with the headers.
    """

    version: str
    debs: tuple[Deb, ...]
    wheels: tuple[Distribution, ...]


def inputs_digest() -> str:
    """The digest of what chooses the sources, for the lock's seal; hexadecimal SHA-256."""
    suites = [[suite.archive, suite.name, suite.component] for suite in _SUITES]
    return lockfile.digest_of({"suites": suites, "debs": _DEBS, "wheels": _WHEELS})


def lock(mirror: Mirror) -> str:
    """The text of a fresh lock.

    Raises:
        ToolError: apt, its keyring, the mirror's signed indices or uv cannot be had.
        LockError: the mirror or the package index does not have one of the versions.
    """
    from images import uv

    debs = apt.exactly(_SUITES, _DEBS, mirror)
    wheels = [
        Distribution(found.name, found.version, found.artifact)
        for found in uv.resolve(_WHEELS, dependencies=False)
    ]
    lines = [deb.line_of(item) for item in debs] + [locks.line_of(item) for item in wheels]
    return lockfile.seal(inputs_digest(), sorted(lines))


def locked(path: Path = LOCK) -> Toolkit:
    """The sources of the compiler, as their lock lists them.

    Raises:
        LockError: the lock is missing, stale or edited by hand.
    """
    sealed = lockfile.read(path, remedy=RENEW)
    if sealed.inputs != inputs_digest():
        raise LockError(f"{path}: lock is stale: the recipe changed since then", remedy=RENEW)
    wheels = [line for line in sealed.lines if " --hash=" in line]
    debs = [line for line in sealed.lines if " --hash=" not in line]
    try:
        return Toolkit(
            VERSION, tuple(deb.parse_line(line) for line in debs), locks.parse_lines(wheels)
        )
    except ValueError as error:
        raise LockError(f"{path}: {error}", remedy=RENEW) from error


def key(tools: Toolkit) -> str:
    """The digest of all that decides about the compiler layer; hexadecimal SHA-256."""
    artifacts = [item.artifact for item in tools.debs] + [item.artifact for item in tools.wheels]
    files = sorted(artifact.sha256 for artifact in artifacts)
    recipe = fetch.file_sha256(_RECIPE / "nvcc.profile")
    return lockfile.digest_of({"files": files, "format": FORMAT, "recipe": recipe})


def entries(tools: Toolkit, cache: Path) -> Iterator[Entry]:
    """The compiler, its headers and what it links by default, in a fixed order.

    Args:
        tools: the locked sources; all of them are in `cache` already.
        cache: the download cache.

    Raises:
        IntegrityError: a source is broken or lacks a file that it should have.
    """
    yield of_bytes(f"{_HOME}/bin/nvcc.profile", (_RECIPE / "nvcc.profile").read_bytes())
    driver_header = b""
    seen: set[str] = set()
    for wheel in tools.wheels:
        for name, content in _headers(fetch.checked(wheel.artifact, cache)):
            if name in seen:
                raise IntegrityError(f"{wheel.pin}: {name}: another wheel has this header as well")
            seen.add(name)
            driver_header = content if name == "cuda.h" else driver_header
            yield of_bytes(f"{_HOME}/include/{name}", content)
    yield of_bytes(f"{_HOME}/lib64/libcudart_static.a", _STATIC_RUNTIME)
    # Only kernels that start kernels need the device runtime, but nvcc names it on every link.
    yield of_bytes(f"{_HOME}/lib64/libcudadevrt.a", elfstub.empty_archive())
    yield of_bytes(f"{_HOME}/lib64/stubs/libcuda.so", driver_stub(driver_header.decode()), 0o755)
    yield from _programs([fetch.checked(item.artifact, cache) for item in tools.debs])


def driver_stub(header: str) -> bytes:
    """A library to link `-lcuda` against, from the names in `cuda.h`.

    A link to the driver's own library would break wherever the driver is mounted elsewhere or not
    at all. What is linked with the stub asks for `libcuda.so.1` when it is started.
    """
    return elfstub.shared_library("libcuda.so.1", _driver_functions(header))


def _driver_functions(header: str) -> list[str]:
    """The functions that `cuda.h` declares, and the versions that its macros turn them into."""
    names = set(re.findall(r"\bCUDAAPI\s+(cu[A-Z]\w*)\s*\(", header))
    for name, value in re.findall(r"#\s*define\s+(cu[A-Z]\w*)\s+(.+)", header):
        # `__CUDA_API_PTDS(cuX)` is cuX or, with a default stream for each thread, cuX_ptds.
        suffix = next((s.lower() for s in ("_PTDS", "_PTSZ") if f"_API{s}" in value), "")
        names.update({name, *(name + suffix for name in re.findall(r"\bcu[A-Z]\w*", value))})
        names.update(re.findall(r"\bcu[A-Z]\w*", value))
    return sorted(names)


def _headers(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """The headers in a wheel of NVIDIA's, by their path below `include`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in sorted(archive.namelist()):
                header = _header(member)
                if header is not None:
                    yield header[1], archive.read(member)
    except zipfile.BadZipFile as error:
        raise IntegrityError(f"{wheel.name}: not a valid wheel: {error}") from error


def _header(member: str) -> tuple[str, str] | None:
    """The package and the path below `include` of a wheel's member, if it is a header."""
    match = _HEADER.fullmatch(member)
    if match is None or member.endswith(("/", "/__init__.py")):
        return None
    return match["package"], match["file"]


def _programs(debs: Sequence[Path]) -> Iterator[Entry]:
    missing = dict(_PROGRAMS)
    for path in debs:
        for member, content in debfile.members(path):
            place = missing.pop(member.name, None)
            if place is not None:
                mode = 0o755 if member.mode & 0o100 else 0o644
                yield of_bytes(f"{_HOME}/{place}", content.read(), mode)
    if missing:
        names = ", ".join(path.name for path in debs)
        raise IntegrityError(f"{names}: without {', '.join(sorted(missing))}")


def link_entries(wheel_members: Mapping[str, Sequence[str]]) -> Iterator[Entry]:
    """Links to the libraries and headers that a target's own wheels brought.

    Three places: `lib64` for the linker, `include` for the compiler, and the loader's default
    directory, so that libraries are found with no LD_LIBRARY_PATH and no entry in ld.so.cache
    (torch-memory-saver is preloaded and needs libcudart before anything sets a path).

    Args:
        wheel_members: the file names in the target's `nvidia-*` wheels, by distribution.

    Raises:
        IntegrityError: two wheels bring the same library or header.
    """
    links: dict[str, str] = {}
    for name, members in sorted(wheel_members.items()):
        for member in sorted(members):
            for place in _places(member):
                target = f"{layout.SITE_PACKAGES}/{member}"
                if links.setdefault(place, target) != target:
                    raise IntegrityError(f"{name}: {member}: another wheel brings {place} as well")
    for place, target in sorted(links.items()):
        yield of_symlink(place, relpath(target, place.rpartition("/")[0]))


def _places(member: str) -> Iterator[str]:
    """Where links to a wheel's member belong."""
    library = _LIBRARY.fullmatch(member)
    if library is not None:
        yield f"{_HOME}/lib64/{library['file']}"
        if library["version"]:
            yield f"{_HOME}/lib64/{library['link']}"
            yield f"{_LOADER_DIRECTORY}/{library['file']}"
    header = _header(member)
    if header is not None and header[0] not in _OWN_HEADERS:
        yield f"{_HOME}/include/{header[1]}"
