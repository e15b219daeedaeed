"""Headers of ELF files: those of libraries, and None for all else."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.formats.libraries import elf_headers
from images.formats.libraries.elf_headers import Headers
from tests.unit import shared_libraries
from tests.unit.shared_libraries import headers_of, needs_gcc

pytestmark = needs_gcc


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("library")
    return shared_libraries.linked(directory, b"payload").read_bytes()


def read(content: bytes) -> Headers | None:
    def part(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(content)
        assert 0 < length <= 1 << 16
        return content[offset : offset + length]

    return elf_headers.answered(elf_headers.read(len(content)), part)


def test_headers_of_a_library(content: bytes) -> None:
    headers = headers_of(content)
    assert {".text", ".nv_fatbin", ".dynsym", ".bss"} <= set(headers.names)
    assert headers.segments[0].type == elf_headers.LOAD
    assert shared_libraries.section_of(content)[1][:7] == b"payload"


def test_tables_are_packed_as_they_were(content: bytes) -> None:
    headers = headers_of(content)
    for offset, table in (
        (0, headers.file.packed()),
        (headers.file.phoff, elf_headers.packed_segments(headers.segments)),
        (headers.file.shoff, elf_headers.packed_sections(headers.sections)),
    ):
        assert content[offset : offset + len(table)] == table


def test_other_files_have_none(tmp_path: Path) -> None:
    for other in (b"", b"#!/bin/sh\n" * 50, b"\x7fELF", b"\x7fELF" * 50, bytes(5000)):
        assert read(other) is None


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (4, "B", 1),  # 32 bits
        (5, "B", 2),  # big endian
        (16, "H", 2),  # a program that is no library
        (18, "H", 183),  # AArch64
        (32, "Q", 1 << 60),
        (40, "Q", 1 << 60),
        (54, "H", 57),
        (56, "H", 0),
        (56, "H", 0xFFFF),
        (58, "H", 65),
        (60, "H", 0),
        (60, "H", 0xFFFF),
        (62, "H", 0xFFFF),
    ],
)
def test_another_form_has_none(content: bytes, offset: int, form: str, value: int) -> None:
    changed = bytearray(content)
    struct.pack_into(f"<{form}", changed, offset, value)
    assert read(bytes(changed)) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 63), st.integers(0, 255)), max_size=8))
def test_a_damaged_header_reads_nothing_outside(
    content: bytes, changes: list[tuple[int, int]]
) -> None:
    changed = bytearray(content)
    for offset, value in changes:
        changed[offset] = value
    read(bytes(changed))


def test_a_cut_off_file_has_none(content: bytes) -> None:
    for size in range(0, len(content), 97):
        assert read(content[:size]) is None
