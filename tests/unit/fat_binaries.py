"""Small libraries with GPU code: ELF files whose sections hold fat binary containers."""

from __future__ import annotations

import struct
from collections.abc import Sequence

PTX, CUBIN = 1, 2
LICENCE = b"Apache License\n    Version 2.0, January 2004\n"


def entry(kind: int, architecture: int, payload: bytes, *, size: int | None = None) -> bytes:
    """An entry: its head, and a payload that fills multiples of 8 bytes."""
    payload += bytes(-len(payload) % 8)
    length = len(payload) if size is None else size
    head = struct.pack("<HHIQ12xI", kind, 0x101, 64, length, architecture)
    return head.ljust(64, b"\0") + payload


def container(*entries: bytes, size: int | None = None, version: int = 1) -> bytes:
    """A container of entries."""
    body = b"".join(entries)
    length = len(body) if size is None else size
    return struct.pack("<IHHQ", 0xBA55ED50, version, 16, length) + body


def library(sections: Sequence[tuple[str, bytes]], *, front_table: bool = False) -> bytes:
    """A library of sections.

    Args:
        sections: name and content of each.
        front_table: puts the table of sections before them, as some tools do.
    """
    every = [("", b""), *sections, (".shstrtab", b"")]
    names, offsets = bytearray(), []
    for name, _ in every:
        offsets.append(len(names))
        names += name.encode() + b"\0"
    every[-1] = (".shstrtab", bytes(names))
    table_size = 64 * len(every)
    at = 64 + (table_size if front_table else 0)
    content, rows = bytearray(), []
    for (_, section), named in zip(every, offsets, strict=True):
        content += bytes(-(at + len(content)) % 8)
        kind = 0 if not named and not section else 1
        start, length = at + len(content), len(section)
        rows.append(struct.pack("<IIQQQQIIQQ", named, kind, 0, 0, start, length, 0, 0, 8, 0))
        content += section
    table = b"".join(rows)
    where = 64 if front_table else at + len(content)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 0, where, 0, 64, 56, 0, 64, len(every), len(every) - 1,
    )  # fmt: skip
    return head + (table + bytes(content) if front_table else bytes(content) + table)
