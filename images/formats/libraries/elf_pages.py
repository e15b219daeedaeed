"""Shared libraries without bytes that nothing reads: pages of zeros, and debug sections.

A range of zeros that has left the file is in memory all the same. The segment around it is divided:
the part before the range has a size in memory that reaches over it (`p_memsz` above `p_filesz`),
and the loader maps pages of zeros there, as for `.bss`. A gap between two segments would not do:
glibc maps it without access (`elf/dl-map-segments.h`), so reading it is a segmentation fault. All
addresses stay, and all that is in memory but the file's header, which is in the first page.

Whole pages leave: offsets stay as they are modulo a page, and the loader has no part of a page to
fill with zeros. The longer table of segments is at the end of the file and in no segment, since
linkers leave no room for it; glibc keeps a copy of such a table, for `dl_iterate_phdr` as well.

No loader reads section headers. A section that lost pages has its size in the file, so `cuobjdump`
finds all that is left, and is marked as not in memory, where it is longer; gdb warns otherwise.
`strip`, of binutils and of elfutils, expects the table of segments behind the file's header and
damages such a file; patchelf does not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from images.formats.libraries import elf_headers
from images.formats.libraries.changed_stream import Piece
from images.formats.libraries.elf_headers import PAGE, Headers, Section, Segment
from images.formats.libraries.splicing import splice

MINIMUM = 1 << 16
"""Bytes from which on a range of zeros leaves: each costs 56 bytes and two mappings of memory."""

_MOST = 1024  # segments: glibc has their table on the stack, and a process has 65530 mappings
_DEBUG = (".debug_", ".zdebug_")
_INACTIVE = Section(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


class _Range(NamedTuple):
    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


class _UnusualError(Exception):
    """The file cannot be made smaller safely."""


def smaller(
    headers: Headers,
    dead: Collection[tuple[int, int]] = (),
    *,
    minimum: int = MINIMUM,
    debug: bool = True,
) -> tuple[Piece, ...]:
    """Return the pieces of a library without what nothing reads; none if it stays as it is.

    Args:
        headers: of the library.
        dead: offsets and lengths of ranges that are zeros.
        minimum: bytes from which on a range leaves.
        debug: whether sections of debug information stay.
    """
    try:
        _check(headers)
        holes = _holes(headers, dead, minimum)
        gone = () if debug else _debug_sections(headers)
        return _content(headers, holes, gone) if holes or gone else ()
    except _UnusualError:
        return ()


def _check(headers: Headers) -> None:
    """Raise unless the file is laid out as linkers do, so that a loader maps it page by page."""
    segments, loads = headers.segments, _loads(headers)
    if (
        not loads
        or loads[0].offset
        or any(segment.type == elf_headers.INTERPRETER for segment in segments)
        or any(segment.end > headers.size for segment in segments)
        or any((load.vaddr - load.offset) % PAGE or load.align % PAGE for load in loads)
        or any(not load.align or load.filesz > load.memsz for load in loads)
        or any(
            one.end > other.offset or one.vaddr + one.memsz > other.vaddr
            for one, other in pairwise(loads)
        )
    ):
        raise _UnusualError


def _loads(headers: Headers) -> list[Segment]:
    return [segment for segment in headers.segments if segment.type == elf_headers.LOAD]


def _holes(
    headers: Headers, dead: Collection[tuple[int, int]], minimum: int
) -> dict[_Range, Segment]:
    """Return the whole pages of the dead ranges, each with the segment that it is in."""
    found: dict[_Range, Segment] = {}
    before = 0
    for offset, length in sorted(dead):
        start = offset + -offset % PAGE
        hole = _Range(start, (offset + length) // PAGE * PAGE - start)
        if hole.length < max(minimum, PAGE):
            continue
        around = [one for one in _loads(headers) if one.offset < start and hole.end <= one.end]
        if offset < before or not around or around[0].flags & elf_headers.WRITABLE:
            raise _UnusualError
        if any(_overlap(one, hole) for one in headers.segments if one.type != elf_headers.LOAD):
            raise _UnusualError
        found[hole] = around[0]
        before = hole.end
    return found


def _overlap(one: Segment | Section, hole: _Range) -> bool:
    return one.offset < hole.end and hole.offset < one.end


def _debug_sections(headers: Headers) -> tuple[int, ...]:
    """Return the numbers of the debug sections, in the order of the file."""
    loaded = max(segment.end for segment in headers.segments)
    found = [
        (section.offset, number)
        for number, section in enumerate(headers.sections)
        if headers.names[number].startswith(_DEBUG)
        and section.type == elf_headers.PROGBITS
        and not section.flags & elf_headers.ALLOC
        and section.offset >= loaded
    ]
    return tuple(number for _, number in sorted(found))


def _content(
    headers: Headers, holes: dict[_Range, Segment], gone: Collection[int]
) -> tuple[Piece, ...]:
    """Return the file without the holes and some sections, with its new headers."""
    debug = _merged(headers.sections[number] for number in gone)
    removed = [*holes, *(_Range(at, size // PAGE * PAGE) for at, size in debug if size >= PAGE)]
    replaced = {one.end - one.length % PAGE: bytes(one.length % PAGE) for one in debug}

    def moved(offset: int) -> int:
        return offset - sum(hole.length for hole in removed if hole.end <= offset)

    sections = [
        _INACTIVE if number in gone else _shortened(section, holes, moved(section.offset))
        for number, section in enumerate(headers.sections)
    ]
    segments = [_aligned(one, moved(one.offset)) for one in _divided(headers, holes)]
    table = elf_headers.packed_segments(segments)
    padding = bytes(-headers.size % PAGE) if holes else b""
    at = headers.size + len(padding) if holes else headers.file.phoff
    file = headers.file._replace(
        phoff=moved(at), phnum=len(segments), shoff=moved(headers.file.shoff)
    )
    replaced[0] = file.packed()
    replaced[headers.file.shoff] = elf_headers.packed_sections(sections)
    if not holes:
        replaced[at], table = table, b""
    try:
        return splice(headers.size, removed, replaced, padding + table)
    except ValueError as error:
        raise _UnusualError from error


def _merged(sections: Iterable[Section]) -> list[_Range]:
    """Return the ranges of sections, those next to each other as one."""
    found: list[_Range] = []
    for section in sections:
        if found and 0 <= section.offset - found[-1].end < PAGE:
            found[-1] = _Range(found[-1].offset, section.end - found[-1].offset)
        else:
            found.append(_Range(section.offset, section.size))
    return found


def _shortened(section: Section, holes: Collection[_Range], offset: int) -> Section:
    """Return a section without the holes in it, at its offset in the new file."""
    within = [hole for hole in holes if _overlap(section, hole)]
    if any(hole.offset < section.offset or hole.end > section.end for hole in within):
        raise _UnusualError
    return section._replace(
        offset=offset,
        size=section.size - sum(hole.length for hole in within),
        flags=section.flags & ~elf_headers.ALLOC if within else section.flags,
    )


def _divided(headers: Headers, holes: dict[_Range, Segment]) -> list[Segment]:
    """Return the segments, divided at the holes, at their offsets in the whole file."""
    if not holes:
        return list(headers.segments)
    segments: list[Segment] = []
    for segment in headers.segments:
        within = [hole for hole, load in holes.items() if load == segment]
        if segment.type == elf_headers.LOAD and within:
            for part in _parts(segment, within):
                segments += _apart_from_code(part, headers.sections)
        elif segment.type != elf_headers.PHDR:  # optional, and the table is in no segment now
            segments.append(segment)
    if len(segments) > _MOST:
        raise _UnusualError
    return segments


def _parts(segment: Segment, holes: Sequence[_Range]) -> list[Segment]:
    """Return a segment in parts, each of which reaches over the hole behind it in memory alone."""
    starts = [segment.offset, *(hole.end for hole in holes)]
    ends = [*(hole.offset for hole in holes), segment.end]
    behind = [*starts[1:], segment.offset + segment.memsz]
    return [
        segment._replace(
            offset=start,
            vaddr=segment.vaddr + start - segment.offset,
            paddr=segment.paddr + start - segment.offset,
            filesz=end - start,
            memsz=next_start - start,
        )
        for start, end, next_start in zip(starts, ends, behind, strict=True)
    ]


def _apart_from_code(part: Segment, sections: Collection[Section]) -> list[Segment]:
    """Return a part of a segment, without the right to execute what is not code.

    Libraries such as NCCL have code and data in one segment. Zeros that may be executed would be
    memory that no file backs: policies of SELinux refuse it (`execmem`). The border is in the
    section that has the hole: gdb warns of any other that is in two segments.
    """
    if not part.flags & elf_headers.EXECUTABLE:
        return [part]
    last = [one.offset for one in sections if one.offset < part.end < one.end]
    border = min(last, default=part.end)
    border = min(max(border + -border % PAGE, part.offset), part.end)
    if not _has_code(sections, part.offset, border):
        border = part.offset
    length = border - part.offset
    if _has_code(sections, border, part.end) or length == part.memsz:
        return [part]
    data = part._replace(
        flags=part.flags & ~elf_headers.EXECUTABLE,
        offset=border,
        vaddr=part.vaddr + length,
        paddr=part.paddr + length,
        filesz=part.filesz - length,
        memsz=part.memsz - length,
    )
    return [part._replace(filesz=length, memsz=length), data] if length else [data]


def _has_code(sections: Collection[Section], start: int, end: int) -> bool:
    part = _Range(start, end - start)
    return any(one.flags & elf_headers.CODE and _overlap(one, part) for one in sections)


def _aligned(segment: Segment, offset: int) -> Segment:
    """Return a segment at a new offset; old versions of glibc want it to fit the alignment."""
    if segment.type == elf_headers.LOAD and (segment.vaddr - offset) % segment.align:
        return segment._replace(offset=offset, align=PAGE)
    return segment._replace(offset=offset)
