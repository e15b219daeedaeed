"""The CUDA compiler below /usr/local/cuda: SGLang compiles kernels when they are first used.

Its layer is the same for every target of one CUDA major version: the programs and the headers that
must fit them. The other files that compiling needs are links to the target's own wheels
(`images.content.cuda.links`).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from images import image_paths
from images.content.cuda import links, stub_library
from images.errors import IntegrityError
from images.formats import deb_file, zip_errors
from images.inputs.fetch import download_cache
from images.inputs.lock.cuda_lock import Toolkit
from images.oci.layer.entry import Entry, of_bytes
from images.util import sha256

_HOME = image_paths.CUDA_HOME
# nvcc links the static runtime by default, and FlashInfer does not change that. A linker script in
# its place links the shared one, of which the image has exactly one.
_STATIC_RUNTIME = (
    b"/* GNU ld script: the shared runtime in the static one's place. */\nINPUT(-lcudart)\n"
)


def key(tools: Toolkit) -> str:
    """Return the digest of all inputs of the compiler layer; hexadecimal SHA-256."""
    artifacts = [item.artifact for item in tools.debs] + [item.artifact for item in tools.wheels]
    inputs = {
        "files": sorted(artifact.sha256 for artifact in artifacts),
        "format": tools.sources.format,
    }
    if tools.sources.profile:
        inputs["recipe"] = sha256.of_file(_profile(tools.version))
    return sha256.of_json(inputs)


def entries(tools: Toolkit, cache: Path) -> Iterator[Entry]:
    """Yield the compiler, its headers and what it links by default, in a fixed order.

    Args:
        tools: the locked sources; all of them are in `cache` already.
        cache: the download cache.

    Raises:
        IntegrityError: a source is damaged or lacks a file that it should have.
    """
    if tools.sources.profile:
        yield of_bytes(f"{_HOME}/bin/nvcc.profile", _profile(tools.version).read_bytes())
    wheels = {wheel: download_cache.checked(wheel.artifact, cache) for wheel in tools.wheels}
    copied = tools.header_wheels
    driver_header = b""
    seen: set[str] = set()
    for wheel, path in wheels.items():
        for name, content in _headers(path):
            driver_header = content if name == "cuda.h" else driver_header
            if wheel not in copied:
                continue
            if name in seen:
                raise IntegrityError(f"{wheel.pin}: {name}: another wheel has this header as well")
            seen.add(name)
            yield of_bytes(f"{_HOME}/include/{name}", content)
    yield of_bytes(f"{_HOME}/lib64/libcudart_static.a", _STATIC_RUNTIME)
    if not tools.sources.runtime:
        # Only kernels that start kernels need the device runtime, but nvcc names it on every link.
        # Where the target's runtime is not another version, the real one is linked from its wheel.
        yield of_bytes(f"{_HOME}/lib64/libcudadevrt.a", stub_library.empty_archive())
    yield of_bytes(f"{_HOME}/lib64/stubs/libcuda.so", driver_stub(driver_header.decode()), 0o755)
    yield from _files(tools, wheels.values(), cache)


def driver_stub(header: str) -> bytes:
    """Return a library to link `-lcuda` against, from the names in `cuda.h`.

    A link to the driver's own library would break wherever the driver is mounted elsewhere or not
    at all. A program that is linked with the stub loads `libcuda.so.1` when it starts.
    """
    return stub_library.shared_library("libcuda.so.1", _driver_functions(header))


def _driver_functions(header: str) -> list[str]:
    """Return the functions that `cuda.h` declares, and those that its macros rename them to."""
    names = set(re.findall(r"\bCUDAAPI\s+(cu[A-Z]\w*)\s*\(", header))
    for name, value in re.findall(r"#\s*define\s+(cu[A-Z]\w*)\s+(.+)", header):
        # `__CUDA_API_PTDS(cuX)` is cuX or, with a default stream for each thread, cuX_ptds.
        suffix = next((s.lower() for s in ("_PTDS", "_PTSZ") if f"_API{s}" in value), "")
        names.update({name, *(name + suffix for name in re.findall(r"\bcu[A-Z]\w*", value))})
        names.update(re.findall(r"\bcu[A-Z]\w*", value))
    return sorted(names)


def _profile(version: str) -> Path:
    return Path(__file__).with_name("recipe") / version / "nvcc.profile"


def _headers(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the headers in a wheel of NVIDIA's, by their path below `include`."""
    with _opened(wheel) as archive:
        for member in sorted(archive.namelist()):
            name = links.header(member)
            if name is not None:
                yield name, archive.read(member)


def _files(tools: Toolkit, wheels: Collection[Path], cache: Path) -> Iterator[Entry]:
    """Yield the compiler's own files, each of which must be in one of the sources."""
    missing = dict(tools.sources.files)
    debs = [download_cache.checked(item.artifact, cache) for item in tools.debs]
    for path in debs:
        for member, content in deb_file.members(path):
            destination = missing.pop(member.name, None)
            if destination is not None:
                yield _file(destination, content(), member.mode)
    for path in wheels:
        with _opened(path) as archive:
            for info in archive.infolist():
                destination = missing.pop(info.filename, None)
                if destination is not None:
                    yield _file(destination, archive.read(info), info.external_attr >> 16)
    if missing:
        names = ", ".join(path.name for path in (*debs, *wheels))
        raise IntegrityError(f"{names}: missing {', '.join(sorted(missing))}")


def _file(destination: str, content: bytes, mode: int) -> Entry:
    return of_bytes(f"{_HOME}/{destination}", content, 0o755 if mode & 0o100 else 0o644)


@contextmanager
def _opened(wheel: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except zip_errors.MALFORMED as error:
        raise IntegrityError(f"{wheel.name}: not a valid wheel: {error}") from error
