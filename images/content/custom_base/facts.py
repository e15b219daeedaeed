"""Facts about a custom base, read from its layers: nothing in it is run."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from images import image_paths
from images.content.custom_base.file_tree import Tree
from images.util import untrusted_json

_PYTHON = f"python{image_paths.PYTHON}"
_TAG = f".cpython-{image_paths.PYTHON.replace('.', '')}.pyc"
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64", "usr/lib")
_GLIBC = re.compile(rb"GNU C Library .{0,80}? version (\d+)\.(\d+)")
_HEAD = 64  # bytes of an ELF header
_ELF = b"\x7fELF"
_WHOLE = 16 << 20
_DOCUMENT = 1 << 16

_NOT_LINKS = ("opt", image_paths.PREFIX, "usr", "usr/local", "usr/lib", "usr/lib/x86_64-linux-gnu")
"""Directories that layers of the build write into: these would replace a link by a directory."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about a custom base.

    Attributes:
        system: its name for itself, e.g. `Ubuntu 22.04.5 LTS`; "" if it has none.
        glibc: `2.35`; "" if there is none.
        python: absolute path of the image's Python; "" if it has none.
        others: the Pythons of other versions on its PATH.
        machine: the ELF machine of its Python (62 is x86-64); 0 if it is no ELF file.
        magic: of its byte code, hexadecimal; "" if it has none.
        compiler: the CUDA version of the compiler below /usr/local/cuda; "" if there is none.
        nvcc: whether there is such a compiler, also one of unknown version.
        cuda_home: whether anything is at /usr/local/cuda.
        lacks: what compiling kernels needs and it does not have.
        occupied: paths where it has something that layers of the build would collide with.
        debian: names of the Debian packages that it has, sorted.
    """

    system: str
    glibc: str
    python: str
    others: tuple[str, ...]
    machine: int
    magic: str
    compiler: str
    nvcc: bool
    cuda_home: bool
    lacks: tuple[str, ...]
    occupied: tuple[str, ...]
    debian: tuple[str, ...]


def wanted(path: str) -> int:
    """Return how many bytes of a file the facts are read from, for `Tree`."""
    name = posixpath.basename(path)
    if name in ("os-release", "version.json"):
        return _DOCUMENT
    if name == "libc.so.6" or re.fullmatch(r"libc-2\.\d+\.so", name):
        return _WHOLE
    in_library = f"/{_PYTHON}/__pycache__/" in path
    return _HEAD if name == _PYTHON or (in_library and name.endswith(_TAG)) else 0


def read(tree: Tree, path: str | None) -> Facts:
    """Read the facts of a tree.

    Args:
        tree: all layers of the image.
        path: the PATH of its config, if it has one.
    """
    directories = [part for part in (path or _DEFAULT_PATH).split(":") if part.startswith("/")]
    python = _python(tree, directories)
    head = tree.content(python)
    nvcc = tree.is_file(f"{image_paths.CUDA_HOME}/bin/nvcc")
    return Facts(
        system=_system(tree),
        glibc=_glibc(tree),
        python=python,
        others=_others(tree, directories),
        machine=int.from_bytes(head[18:20], "little") if head.startswith(_ELF) else 0,
        magic=_magic(tree, python),
        compiler=_compiler(tree) if nvcc else "",
        nvcc=nvcc,
        cuda_home=tree.kind(image_paths.CUDA_HOME) is not None,
        lacks=tuple(_lacks(tree, directories, python)),
        occupied=tuple(_occupied(tree)),
        debian=tuple(sorted(_debian(tree))),
    )


def _system(tree: Tree) -> str:
    text = tree.content("etc/os-release") or tree.content("usr/lib/os-release")
    fields = dict(line.partition("=")[::2] for line in text.decode(errors="replace").splitlines())
    return fields.get("PRETTY_NAME", "").strip("\"'")


def _glibc(tree: Tree) -> str:
    for directory in _LIBRARIES:
        if found := _GLIBC.search(tree.content(f"{directory}/libc.so.6")):
            return f"{int(found[1])}.{int(found[2])}"
    return ""


def _python(tree: Tree, directories: Sequence[str]) -> str:
    """Find the first Python of the image's version that has its standard library beside it.

    A link from elsewhere is followed: a virtual environment looks for the library beside `home`.
    """
    for directory in (*directories, "/usr/bin"):
        link = f"{directory.rstrip('/')}/{_PYTHON}"
        if tree.is_file(link):
            for candidate in (link, f"/{tree.resolve(link)}"):
                if tree.is_file(f"{_prefix(candidate)}/lib/{_PYTHON}/os.py"):
                    return candidate
    return ""


def _prefix(python: str) -> str:
    return posixpath.dirname(posixpath.dirname(python))


def _others(tree: Tree, directories: Sequence[str]) -> tuple[str, ...]:
    """Find Pythons of other versions, e.g. `/usr/bin/python3.10`."""
    found = {
        f"{directory.rstrip('/')}/{name}": None
        for directory in directories
        for name in tree.names(directory)
        if re.fullmatch(r"python3\.\d+", name) and name != _PYTHON
    }
    return tuple(found)


def _magic(tree: Tree, python: str) -> str:
    directory = f"{_prefix(python)}/lib/{_PYTHON}/__pycache__" if python else ""
    for name in tree.names(directory) if directory else []:
        if name.endswith(_TAG) and (content := tree.content(f"{directory}/{name}")):
            return content[:4].hex()
    return ""


def _compiler(tree: Tree) -> str:
    try:
        document = untrusted_json.loads(tree.content(f"{image_paths.CUDA_HOME}/version.json"))
        return ".".join(str(document["cuda"]["version"]).split(".")[:2])
    except (ValueError, KeyError, TypeError):
        return ""


def _lacks(tree: Tree, directories: Sequence[str], python: str) -> list[str]:
    lacking = [
        program
        for program in ("gcc", "g++")
        if not any(tree.is_file(f"{directory}/{program}") for directory in directories)
    ]
    if python and not tree.is_file(f"{_prefix(python)}/include/{_PYTHON}/Python.h"):
        lacking.append(f"{_prefix(python)}/include/{_PYTHON}/Python.h")
    if not any(tree.is_file(f"{directory}/libnuma.so.1") for directory in _LIBRARIES):
        lacking.append("libnuma.so.1")
    return lacking


def _debian(tree: Tree) -> set[str]:
    names = (name.partition(".list") for name in tree.names("var/lib/dpkg/info"))
    return {name.partition(":")[0] for name, found, rest in names if found and not rest}


def _occupied(tree: Tree) -> list[str]:
    found = [f"/{path}" for path in _NOT_LINKS if tree.kind(path) not in (None, "dir")]
    if tree.names(image_paths.PREFIX):
        found.append(f"/{image_paths.PREFIX}")
    return found
