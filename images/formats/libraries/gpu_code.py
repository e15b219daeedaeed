"""GPU code in libraries: the fat binary containers that nvcc puts into ELF files.

NVIDIA documents what is in a fat binary and which GPU can load it (CUDA C++ Programming Guide,
"Binary Compatibility" and "PTX Compatibility"), not its bytes; these are as `cuobjdump` shows them
and as the libraries of CUDA 11 to 13 have them. The sections `.nv_fatbin` and `__nv_relfatbin` hold
containers one after the other:

    container: magic, u16 version 1, u16 size of this head, u64 size of the entries
    entry:     u16 kind (1 PTX, 2 cubin), u16, u32 size of this head, u64 size of the payload, ...,
               u32 architecture (90 for 9.0) at byte 28; then the payload, which may be compressed

Only heads are read. Whatever differs from this form is left as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import NamedTuple

from images.formats.libraries.byte_ranges import Range

MAGIC = b"\x50\xed\x55\xba"
"""The first bytes of a container."""

SECTIONS = frozenset({".nv_fatbin", "__nv_relfatbin"})
"""The sections that hold containers."""

PTX, CUBIN = 1, 2
"""Kinds of entries: code that a driver compiles, and machine code."""

HEAD = struct.Struct("<4sHHQ")
"""The head of a container: magic, version, size of the head, size of the entries."""

ENTRY = struct.Struct("<HHIQ12xI")
"""What is read of an entry's head: kind, _, size of the head, size of the payload, architecture."""

ALIGNED = 8
"""Containers begin at multiples of this."""


class CodeEntry(NamedTuple):
    """An entry of a container.

    Attributes:
        kind: `PTX` or `CUBIN`; other kinds are not understood.
        architecture: e.g. 90.
        offset: of its head, in the file.
        size: bytes of head and payload.
    """

    kind: int
    architecture: int
    offset: int
    size: int


class Container(NamedTuple):
    """A container.

    Attributes:
        offset: in the file.
        head: the bytes of its head.
        size: bytes of its entries; 0 if its head is damaged.
        entries: those that were read.
        fault: why it is not understood; "" if it is.
    """

    offset: int
    head: bytes
    size: int
    entries: tuple[CodeEntry, ...] = ()
    fault: str = ""

    @property
    def body(self) -> int:
        """The offset of its first entry."""
        return self.offset + len(self.head)

    @property
    def end(self) -> int:
        """The offset behind its last entry."""
        return self.body + self.size


def read(offset: int, size: int) -> Generator[Range, bytes, Container]:
    """Return the container at an offset.

    A reader for `byte_ranges`.

    Args:
        offset: of its magic.
        size: of the file.
    """
    if offset + HEAD.size > size:
        return Container(offset, b"", 0, fault="its head is not whole")
    head = yield offset, HEAD.size
    _, version, length, content = HEAD.unpack(head)
    if (version, length) != (1, HEAD.size):
        return Container(offset, head, 0, fault=f"version {version}, with a head of {length} bytes")
    if offset + length + content > size:
        return Container(offset, head, 0, fault="it is longer than the file")
    found = Container(offset, head, content)
    entries: list[CodeEntry] = []
    at = found.body
    while at < found.end:
        if at + ENTRY.size > found.end:
            return found._replace(fault=f"at {at}: the head of an entry is not whole")
        kind, _, length, payload, architecture = ENTRY.unpack((yield at, ENTRY.size))
        if length < ENTRY.size or at + length + payload > found.end:
            return found._replace(fault=f"at {at}: an entry is longer than its container")
        if kind not in (PTX, CUBIN):
            return found._replace(fault=f"at {at}: an entry of the unknown kind {kind}")
        entries.append(CodeEntry(kind, architecture, at, length + payload))
        at += length + payload
    return found._replace(entries=tuple(entries))
