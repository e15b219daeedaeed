"""Shared libraries made by g++, a program that loads them, and their memory."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from images.formats.libraries import elf_headers
from images.formats.libraries.elf_headers import LOAD, PAGE, WRITABLE, Headers

needs_gcc = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ to link")

SECTION = ".nv_fatbin"

LIBRARY = """
#include <stdexcept>
asm(".pushsection .nv_fatbin,\\"a\\",@progbits\\n.balign 4096\\n"
    ".globl payload\\npayload:\\n.incbin \\"payload.bin\\"\\n.popsection");
extern "C" const unsigned char payload[];
namespace {
thread_local int calls = 40;
int unwound;
struct Guard { ~Guard() { ++unwound; } };
int thrown(int depth) {
    Guard guard;
    if (!depth) throw std::runtime_error("thrown in the library");
    return thrown(depth - 1) + 1;
}
const void *const pointers[] = {payload, &unwound};
}
extern "C" int caught() {
    try { return thrown(3); } catch (const std::runtime_error &) { return unwound + ++calls; }
}
extern "C" void through(void (*call)()) { Guard guard; call(); }
extern "C" const unsigned char *bytes() { return (const unsigned char *)pointers[0]; }
"""

PROGRAM = """
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <stdexcept>
static const char *library;
static int each(struct dl_phdr_info *info, size_t, void *file) {
    if (strcmp(info->dlpi_name, library)) return 0;
    printf("segments %d\\n", info->dlpi_phnum);
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const ElfW(Phdr) &one = info->dlpi_phdr[i];
        if (one.p_type == PT_LOAD && !(one.p_flags & PF_W))
            fwrite((void *)(info->dlpi_addr + one.p_vaddr), 1, one.p_memsz, (FILE *)file);
    }
    return 1;
}
int main(int, char **arguments) {
    library = arguments[1];
    void *handle = dlopen(library, RTLD_LAZY);
    if (!handle) { puts(dlerror()); return 1; }
    printf("caught %d\\n", ((int (*)())dlsym(handle, "caught"))());
    try {
        auto call = [] { throw std::logic_error("thrown in the program"); };
        ((void (*)(void (*)()))dlsym(handle, "through"))(call);
    } catch (const std::logic_error &error) { puts(error.what()); }
    FILE *file = fopen(arguments[2], "w");
    printf("found %d\\n", dl_iterate_phdr(each, file));
    return fclose(file) | dlclose(handle);
}
"""


def linked(directory: Path, payload: bytes, *options: str) -> Path:
    """Return a library whose section `.nv_fatbin` begins with a payload.

    Args:
        directory: where it is made.
        payload: its bytes, at a multiple of a page.
        options: more of them for g++.
    """
    (directory / "payload.bin").write_bytes(payload)
    (directory / "library.cc").write_text(LIBRARY)
    path = directory / "library.so"
    command = ["g++", "-shared", "-fPIC", "-o", path.name, *options, "library.cc"]
    subprocess.run(command, cwd=directory, check=True)
    return path


def loaded(library: Path, **environment: str) -> tuple[str, bytes]:
    """Load a library in a program; return what it printed and the segments that are not written to.

    Raises:
        CalledProcessError: the program died.
    """
    program = library.parent / "program"
    if not program.exists():
        (library.parent / "program.cc").write_text(PROGRAM)
        command = ["g++", "-o", program.name, "program.cc", "-ldl"]
        subprocess.run(command, cwd=library.parent, check=True)
    memory = library.with_suffix(".memory")
    command = [str(program), str(library), str(memory)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout, memory.read_bytes()


def headers_of(content: bytes) -> Headers:
    """Return the headers of a library."""
    found = elf_headers.answered(
        elf_headers.read(len(content)), lambda offset, length: content[offset : offset + length]
    )
    assert found is not None
    return found


def section_of(content: bytes, name: str = SECTION) -> tuple[int, bytes]:
    """Return the offset and the bytes of a section."""
    headers = headers_of(content)
    section = headers.sections[headers.names.index(name)]
    return section.offset, content[section.offset : section.end]


def memory_of(content: bytes) -> dict[int, tuple[int, bytes]]:
    """Return what glibc maps: flags and bytes of each page by its address, relocations left out."""
    pages: dict[int, tuple[int, bytes]] = {}
    for segment in headers_of(content).segments:
        if segment.type != LOAD:
            continue
        start, skew = segment.vaddr // PAGE * PAGE, segment.vaddr % PAGE
        mapped = content[segment.offset - skew : -(-segment.end // PAGE) * PAGE]
        if segment.memsz > segment.filesz:
            assert segment.flags & WRITABLE or not (segment.vaddr + segment.filesz) % PAGE
            mapped = mapped[: skew + segment.filesz]
        for address in range(start, segment.vaddr + segment.memsz, PAGE):
            page = mapped[address - start : address - start + PAGE].ljust(PAGE, b"\0")
            pages[address] = segment.flags, page
    return pages


def with_noise(payload: bytearray, zeros: Iterable[tuple[int, int]]) -> bytes:
    """Return a payload without a zero, but for some ranges of zeros."""
    payload[:] = bytes(1 + at % 255 for at in range(256)) * (len(payload) // 256)
    for offset, length in zeros:
        payload[offset : offset + length] = bytes(length)
    return bytes(payload)
