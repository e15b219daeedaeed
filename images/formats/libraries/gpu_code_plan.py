"""GPU code that the GPUs of an image cannot load, taken out of a library.

A cubin of X.y runs on GPUs of X.z with z >= y and on no other major version; PTX of X.y can be
compiled for any GPU from X.y on (CUDA C++ Programming Guide, "Binary Compatibility" and "PTX
Compatibility"). So a cubin stays if a GPU of its major version is served, and PTX stays unless it
is for later GPUs than all that are served. What stays moves to the front of its container, whose
head gets the new size; zeros follow. No byte outside of containers changes, and no address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO

from images.formats.libraries import byte_ranges, elf_headers, elf_sections, gpu_code
from images.formats.libraries.byte_ranges import Range
from images.formats.libraries.changed_stream import Piece
from images.formats.libraries.elf_headers import Headers
from images.formats.libraries.elf_sections import DamagedError, Section
from images.formats.libraries.gpu_code import CUBIN, CodeEntry, Container
from images.formats.libraries.served_gpus import Served

_CONTAINERS = 1 << 16
"""Most containers of a file, so that none can take all memory: libtorch_cuda has 393."""


@dataclass(frozen=True)
class Plan:
    """The changes of one library.

    Attributes:
        pieces: the whole file in order; those from the published file never go backwards in it.
            Empty if nothing changes.
        dead: the ranges (offset, length) that are zeros afterwards, sorted; none touch.
        removed: bytes that are taken out, by what they are, e.g. `sm_70` and `compute_120`.
        faults: why containers stay as they are, with their offset.
        headers: of the library, which the pieces do not change; None if it has another form.
    """

    pieces: tuple[Piece, ...] = ()
    dead: tuple[Range, ...] = ()
    removed: dict[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    headers: Headers | None = None


def plan(opened: Callable[[], IO[bytes]], size: int, served: Served | None) -> Plan:
    """Return what to change in a file.

    Args:
        opened: opens it; more than once for a file of a rare form.
        size: of the file.
        served: the GPUs whose code stays; all of it for None.
    """
    found: dict[int, Container] = {}
    sections: list[Section] = []
    faults: list[str] = []
    headers: list[Headers | None] = []

    def container(offset: int) -> Generator[Range, bytes, None]:
        if offset % gpu_code.ALIGNED == 0 and len(found) < _CONTAINERS:
            found[offset] = yield from gpu_code.read(offset, size)

    def table() -> Generator[Range, bytes, None]:
        try:
            sections.extend((yield from elf_sections.read(size)))
        except DamagedError as error:
            faults.append(str(error))

    def all_headers() -> Generator[Range, bytes, None]:
        headers.append((yield from elf_headers.read(size)))

    if served is None:
        byte_ranges.read(opened, [all_headers()])
        return Plan(headers=headers[0])
    byte_ranges.read(opened, [table(), all_headers()], gpu_code.MAGIC, container)
    inside = [section for section in sections if section.name in gpu_code.SECTIONS]
    every: list[Container] = []
    for section in sorted(inside, key=lambda one: one.offset):
        every += _walked(section, found, faults)
    return replace(_changes(every, size, partial(_keeps, served), faults), headers=headers[0])


def _keeps(served: Served, entry: CodeEntry) -> bool:
    """Return whether an entry of a container stays."""
    if entry.kind == CUBIN:
        return entry.architecture // 10 in served.majors
    return entry.architecture <= served.newest


def _walked(
    section: Section, found: Mapping[int, Container], faults: list[str]
) -> Iterator[Container]:
    """Yield the containers of a section that are understood; the others are faults.

    Where a container is not followed by another, its own size cannot be trusted, and nothing behind
    it is sure.
    """
    at, end = section.offset, section.offset + section.size
    while at < end:
        one = found.get(at)
        if one is None:
            faults.append(f"at {at} of {section.name}: not a container")
            return
        at = one.end + -one.end % gpu_code.ALIGNED
        fault = one.fault
        at = end if fault and not one.size else at
        if not (one.end == end or at == end or (at < end and at in found)):
            fault, at = fault or f"no container follows it at {at}", end
        if fault:
            faults.append(f"the container at {one.offset} of {section.name}: {fault}")
        else:
            yield one


def _changes(
    containers: Iterable[Container],
    size: int,
    stays: Callable[[CodeEntry], bool],
    faults: Sequence[str],
) -> Plan:
    pieces: list[Piece] = []
    dead: list[Range] = []
    removed: Counter[str] = Counter()
    at = 0
    for one in containers:
        kept = [entry for entry in one.entries if stays(entry)]
        if len(kept) == len(one.entries) or one.offset < at:
            continue
        for entry in one.entries:
            if not stays(entry):
                removed[_name(entry)] += entry.size
        content = sum(entry.size for entry in kept)
        pieces.append(Piece(one.offset - at, at))
        pieces.append(Piece(len(one.head), content=_head(one, content)))
        pieces += (Piece(entry.size, entry.offset) for entry in kept)
        pieces.append(Piece(one.size - content))
        dead.append((one.body + content, one.size - content))
        at = one.end
    if pieces:
        pieces.append(Piece(size - at, at))
    order = dict(sorted(removed.items()))
    return Plan(tuple(piece for piece in pieces if piece.length), tuple(dead), order, (*faults,))


def _name(entry: CodeEntry) -> str:
    """Return what an entry is, as NVIDIA's tools name it: `sm_90`, `compute_120`."""
    return f"{'sm' if entry.kind == CUBIN else 'compute'}_{entry.architecture}"


def _head(container: Container, content: int) -> bytes:
    magic, version, length, _ = gpu_code.HEAD.unpack(container.head)
    return gpu_code.HEAD.pack(magic, version, length, content)
