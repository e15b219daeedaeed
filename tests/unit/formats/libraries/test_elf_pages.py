"""Libraries without pages of zeros and debug sections: in memory they are what they were."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.formats.libraries import elf_headers, elf_pages
from images.formats.libraries.changed_stream import ChangedStream
from images.formats.libraries.elf_headers import LOAD, PAGE, Headers, Segment
from tests.unit import shared_libraries
from tests.unit.shared_libraries import headers_of, memory_of, needs_gcc, section_of

pytestmark = needs_gcc

KIB = 1024
ZEROS = (
    (5000, 100 * KIB),
    (150 * KIB, 200 * KIB),
    (600 * KIB + 1, 30 * KIB),
    (700 * KIB, 68 * KIB),
)
SIZE = 800 * KIB
LAYOUTS = {
    "usual": (),
    "one segment, as NCCL's": ("-Wl,-z,noseparate-code", "-Wl,-z,max-page-size=0x200000"),
    "with debug sections": ("-g",),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("library")
    payload = shared_libraries.with_noise(bytearray(SIZE), ZEROS)
    return shared_libraries.linked(directory, payload, *LAYOUTS[request.param])


@pytest.fixture
def content(library: Path) -> bytes:
    return library.read_bytes()


def dead_in(content: bytes) -> list[tuple[int, int]]:
    start, _ = section_of(content)
    return [(start + offset, length) for offset, length in ZEROS]


def cut(
    content: bytes,
    dead: list[tuple[int, int]] | None = None,
    *,
    minimum: int = elf_pages.MINIMUM,
    debug: bool = True,
) -> bytes:
    """The smaller file; the same one if it stays as it is."""
    dead = dead_in(content) if dead is None else dead
    found = elf_pages.smaller(headers_of(content), dead, minimum=minimum, debug=debug)
    if not found:
        return content
    made = ChangedStream(io.BytesIO(content), found).read()
    assert len(made) == sum(piece.length for piece in found)
    return made


def beside(library: Path, content: bytes) -> Path:
    path = library.with_name("cut.so")
    path.write_bytes(content)
    return path


def assert_same_memory(content: bytes, made: bytes) -> None:
    """All is as it was but the file's header, and data that is no longer executable."""
    before, after = memory_of(content), memory_of(made)
    assert after.keys() == before.keys()
    assert after[0][1][64:] == before[0][1][64:]
    assert [page for address, (_, page) in after.items() if address] == [
        page for address, (_, page) in before.items() if address
    ]
    lost = {flags ^ before[address][0] for address, (flags, _) in after.items()}
    assert lost <= {0, elf_headers.EXECUTABLE}


def test_pages_of_zeros_leave_and_memory_stays(content: bytes) -> None:
    made = cut(content)
    assert len(content) - len(made) > 340 * KIB
    assert_same_memory(content, made)


def test_code_stays_executable_and_no_zeros_become_so(content: bytes) -> None:
    headers = headers_of(cut(content))
    executable = [one for one in headers.segments if one.type == LOAD and one.flags & 1]
    assert all(one.filesz == one.memsz for one in executable)
    for section in headers.sections:
        if section.flags & elf_headers.CODE:
            assert any(one.offset <= section.offset < section.end <= one.end for one in executable)


def test_offsets_fit_addresses_and_alignments(content: bytes) -> None:
    """glibc before 2.35 refuses a segment that does not fit its own alignment."""
    loads = [one for one in headers_of(cut(content)).segments if one.type == LOAD]
    assert all((one.vaddr - one.offset) % one.align == 0 for one in loads)
    largest = max(one.align for one in headers_of(content).segments if one.type == LOAD)
    assert max(one.align for one in loads) == largest


def test_a_loaded_library_is_the_same_and_exceptions_pass_it(library: Path, content: bytes) -> None:
    before, whole = shared_libraries.loaded(library)
    after, memory = shared_libraries.loaded(beside(library, cut(content)))
    assert memory[64:] == whole[64:]
    assert whole.count(b"\1\2\3\4\5\6\7\x08") > 1000  # the payload
    count = len(headers_of(content).segments)
    more = len(headers_of(cut(content)).segments)
    assert count + 3 <= more <= count + 4
    assert after == before.replace(f"segments {count}\n", f"segments {more}\n")
    assert "caught 45\nthrown in the program\n" in after


def test_a_library_is_loaded_with_all_symbols_bound_at_once(library: Path, content: bytes) -> None:
    printed, _ = shared_libraries.loaded(beside(library, cut(content)), LD_BIND_NOW="1")
    assert "caught 45" in printed


def with_segments(content: bytes, change: list[Segment]) -> bytes:
    at = headers_of(content).file.phoff
    table = elf_headers.packed_segments(change)
    return content[:at] + table + content[at + len(table) :]


def test_a_gap_instead_of_zeros_kills_who_reads_it(library: Path, content: bytes) -> None:
    """The loader maps gaps without access, so a range that is read must not become one."""
    made = cut(content)
    gaps = [
        one._replace(memsz=one.filesz) if one.type == LOAD and not one.flags & 2 else one
        for one in headers_of(made).segments
    ]
    path = beside(library, with_segments(made, gaps))
    shared_libraries.loaded(path)  # reads what the headers say, not the gaps
    reading = "import ctypes, sys; library = ctypes.CDLL(sys.argv[1]); "
    reading += "library.bytes.restype = ctypes.c_void_p; "
    reading += f"ctypes.string_at(library.bytes() + {250 * KIB}, 1)"
    command = ["python3", "-c", reading, str(path)]
    assert subprocess.run(command, check=False).returncode == -11
    beside(library, made)
    assert subprocess.run(command, check=False).returncode == 0


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_ranges_leave_memory_as_it_is(library: Path, data: st.DataObject) -> None:
    content = bytearray(library.read_bytes())
    start, _ = section_of(bytes(content))
    bounds = data.draw(st.lists(st.integers(0, SIZE), max_size=12, unique=True).map(sorted))
    dead = [(start + a, b - a) for a, b in zip(bounds[::2], bounds[1::2], strict=False)]
    content[start : start + SIZE] = shared_libraries.with_noise(
        bytearray(SIZE), [(offset - start, length) for offset, length in dead]
    )
    minimum = data.draw(st.sampled_from([0, PAGE, 16 * KIB, 64 * KIB]))
    made = cut(bytes(content), dead, minimum=minimum)
    assert_same_memory(bytes(content), made)
    leaving = [(o + n) // PAGE * PAGE - -(-o // PAGE) * PAGE for o, n in dead]
    gone = sum(n for n in leaving if n >= max(minimum, PAGE))
    assert len(content) - gone <= len(made) <= len(content) - gone + 2 * PAGE


def test_sections_have_what_is_left(content: bytes) -> None:
    """cuobjdump reads the bytes; gdb looks for the segment of a section that is in memory."""
    _, before = section_of(content)
    _, after = section_of(cut(content))
    assert after.replace(b"\0", b"") == before.replace(b"\0", b"")
    headers = headers_of(cut(content))
    assert headers.sections[headers.names.index(shared_libraries.SECTION)].flags == 0
    for name in (".text", ".eh_frame", ".dynstr", ".symtab", ".strtab", ".comment"):
        assert section_of(cut(content), name)[1] == section_of(content, name)[1]


@pytest.mark.parametrize("minimum", [256 * KIB, 1 << 30])
def test_short_ranges_stay(content: bytes, minimum: int) -> None:
    assert cut(content, minimum=minimum) == content


def test_debug_sections_leave_as_strip_takes_them(library: Path, content: bytes) -> None:
    made = cut(content, [], debug=False)
    names = {name for name in headers_of(content).names if name.startswith(".debug_")}
    assert bool(names) == (made != content)
    assert (len(made) < len(content) - 3000) == bool(names)
    assert memory_of(made)[0][1][64:] == memory_of(content)[0][1][64:]
    assert "caught 45" in shared_libraries.loaded(beside(library, made))[0]
    if names and shutil.which("strip"):
        assert stripped(beside(library, made)) == stripped(library)


def stripped(library: Path) -> bytes:
    made = library.with_suffix(".stripped")
    subprocess.run(["strip", "--strip-debug", "-o", made, library], check=True)
    return made.read_bytes()


@pytest.mark.skipif(shutil.which("gdb") is None, reason="needs gdb")
def test_a_debugger_reads_it_without_a_warning(library: Path, content: bytes) -> None:
    path = beside(library, cut(content))
    command = ["gdb", "-nx", "-batch", "-ex", "info address caught", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "caught" in done.stdout
    assert "warning" not in done.stderr


def test_both_leave_at_once(library: Path, content: bytes) -> None:
    made = cut(content, debug=False)
    assert len(made) <= min(len(cut(content)), len(cut(content, [], debug=False)) + 2 * PAGE)
    assert (
        shared_libraries.loaded(beside(library, made))[1][64:]
        == (shared_libraries.loaded(library)[1][64:])
    )


def test_bytes_behind_the_section_table_stay(content: bytes) -> None:
    """patchelf leaves the section table in the middle of the file."""
    made = cut(content + b"more" * 1000)
    assert headers_of(made).names == headers_of(content).names
    assert b"more" * 1000 in made


def test_a_segment_that_names_the_table_of_segments_is_left_out(content: bytes) -> None:
    segments = list(headers_of(content).segments)
    at = next(n for n, one in enumerate(segments) if one.type not in (LOAD, elf_headers.DYNAMIC))
    segments[at] = Segment(elf_headers.PHDR, 4, 64, 64, 64, 56 * len(segments), 0, 8)
    made = cut(with_segments(content, segments))
    assert len(made) < len(content)
    assert elf_headers.PHDR not in {one.type for one in headers_of(made).segments}


def unusual(headers: Headers, **change: int) -> Headers:
    """The headers with another field in the segment that has the payload."""
    segments = list(headers.segments)
    section = headers.sections[headers.names.index(shared_libraries.SECTION)]
    at = next(n for n, s in enumerate(segments) if s.offset <= section.offset < s.end)
    segments[at] = segments[at]._replace(**change)
    return headers._replace(segments=tuple(segments))


@pytest.mark.parametrize(
    "change",
    [
        {"flags": 6},
        {"vaddr": 1},
        {"align": 0},
        {"align": 8},
        {"filesz": 1 << 40},
        {"memsz": 1},
        {"memsz": 1 << 40},
        {"type": 3},
        {"type": 2},
    ],
)
def test_an_unusual_segment_leaves_the_file_as_it_is(
    content: bytes, change: dict[str, int]
) -> None:
    headers = unusual(headers_of(content), **change)
    assert elf_pages.smaller(headers, dead_in(content)) == ()


def test_ranges_across_sections_or_each_other_leave_the_file_as_it_is(content: bytes) -> None:
    start, payload = section_of(content)
    behind = [(start + 700 * KIB, len(payload) - 700 * KIB + 8 * PAGE)]
    for dead in (behind, [(start - PAGE, 100 * KIB)], [*dead_in(content), dead_in(content)[1]]):
        assert cut(content, dead) == content


def test_too_many_ranges_leave_the_file_as_it_is(tmp_path: Path) -> None:
    path = shared_libraries.linked(tmp_path, bytes(10_000 * KIB))
    content = path.read_bytes()
    start, _ = section_of(content)
    dead = [(start + at, PAGE) for at in range(0, 10_000 * KIB, 2 * PAGE)]
    assert cut(content, dead, minimum=PAGE) == content
    assert len(cut(content, dead[:1000], minimum=PAGE)) < len(content) - 900 * PAGE
