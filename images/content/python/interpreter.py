"""The image's own Python, run on the host without chroot and without root.

Byte code and wheels made from sdists must come from the image's Python, not from the builder's. Its
files are extracted from the base's .debs into the download cache and started through their own
loader, so neither the host's Python nor its C library matters.

A download cache may be damaged, or shared by others. So the digest of the extracted files is
locked, and they are hashed before they are run, once in a process; other files in their directory
are replaced. Nothing is written there afterwards: it has no byte code, and the interpreter writes
none.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from images import image_paths
from images.errors import IntegrityError, LockError, StoreError
from images.formats import deb_file
from images.inputs.fetch import download_cache
from images.inputs.lock import python_lock
from images.inputs.lock.deb import Deb
from images.util import tree_digest

_PYTHON = f"python{image_paths.PYTHON}"
_LOADER = "ld-linux-x86-64.so.2"
# Modules that would need more libraries: a builder needs neither terminals nor databases. Without
# them no module can load one of the host's libraries by accident.
_LEFT_OUT = re.compile(r"lib-dynload/(_curses|_dbm|_gdbm|nis|readline|_tkinter)")
_OF_LOADER = frozenset(":;$")
_LIBRARY = re.compile(r"(?:usr/)?lib/x86_64-linux-gnu/(?P<name>[^/]+\.so[^/]*)")

# `sys.executable`: child processes of a build start the same way.
_WRAPPER = """\
#!/bin/sh
# Starts Python with its own loader and libraries, whatever the host has.
root=$(dirname "$(dirname "$0")")
exec "$root/libraries/{loader}" --inhibit-cache --argv0 "$0" \\
	--library-path "$root/libraries" "$root/libexec/{python}" -B "$@"
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that can be started.

    Attributes:
        command: the start of a command line; isolated from the user's and the host's packages.
        env: its whole environment. No variable of the builder's that starts with `PYTHON` or `LD_`
            may be added.
        version: e.g. `3.11.2`.
        home: the directory of all its files; None for a system's interpreter.
    """

    command: tuple[str, ...]
    env: dict[str, str]
    version: str
    home: Path | None = None

    def moved(self, home: str) -> tuple[str, ...]:
        """Return the command line for its directory at another path."""
        if self.home is None:
            return self.command
        return tuple(
            f"{home}/{Path(word).relative_to(self.home)}" if word.startswith("/") else word
            for word in self.command
        )


def fresh_digest(debs: Sequence[Deb], cache: Path) -> str:
    """Extract the files anew and return their digest, for the lock.

    Args:
        debs: the locked packages of the base.
        cache: the download cache, which has those of the interpreter.

    Raises:
        LockError, IntegrityError, StoreError: as `extracted`.
    """
    with _made(debs, cache) as tree:
        return tree_digest.of(tree)


def missing(debs: Sequence[Deb], cache: Path) -> list[Deb]:
    """Return the packages that `extracted` will read: none if the interpreter is there already.

    Raises:
        LockError: the base lacks a package of the interpreter, or the lock of the extracted files
            is of another base.
    """
    return (
        [] if _is_whole(_home(debs, cache), python_lock.read(debs)) else python_lock.packages(debs)
    )


def extracted(debs: Sequence[Deb], cache: Path) -> Interpreter:
    """Return the interpreter of a base, extracted on first use; safe for several builds at once.

    Args:
        debs: the locked packages of the base.
        cache: the download cache, which has those that `missing` names.

    Raises:
        LockError: the base lacks a package of the interpreter, or the extracted files are not the
            locked ones.
        IntegrityError: a package is damaged.
        StoreError: the cache cannot be written.
    """
    home, tree = _home(debs, cache), python_lock.read(debs)
    if not _is_whole(home, tree):
        with _made(debs, cache) as fresh:
            if (found := tree_digest.of(fresh)) != tree:
                raise LockError(
                    f"{python_lock.PATH}: the extracted Python has the digest {found}, not {tree}",
                    remedy=python_lock.RENEW,
                )
            _put(fresh, home, tree)
    home = _literal(home)
    return Interpreter(_command(home), _environment(), _version(debs), home)


def is_literal(path: str) -> bool:
    """Return whether the loader takes a path literally; `extracted` returns another name if not."""
    return not _OF_LOADER.intersection(path)


def _literal(home: Path) -> Path:
    """Return a name of the directory that the loader takes literally while this process lives.

    The loader splits lists of directories at `:` and `;` and gives `$` a meaning, there and in the
    names of modules that Python loads; none of it can be quoted.
    """
    if is_literal(str(home)):
        return home
    return Path(f"/proc/{os.getpid()}/fd/{_opened(home.parent)}", home.name)


@functools.cache
def _opened(directory: Path) -> int:
    """Open a directory until the process ends: the interpreter loads modules that long."""
    return os.open(directory, os.O_PATH | os.O_DIRECTORY)


_hashed: set[tuple[Path, str]] = set()
"""Directories that this process has hashed, and their digests."""


def _is_whole(home: Path, tree: str) -> bool:
    if (home, tree) not in _hashed:
        try:
            if tree_digest.of(home) != tree:
                return False
        except OSError:  # missing or unreadable: it is made anew
            return False
        _hashed.add((home, tree))
    return True


def _home(debs: Sequence[Deb], cache: Path) -> Path:
    return cache.absolute() / "interpreters" / python_lock.inputs_digest(debs)


def _version(debs: Sequence[Deb]) -> str:
    (program,) = (deb for deb in debs if deb.package == python_lock.PROGRAM)
    return program.version.partition("-")[0]


def _command(home: Path) -> tuple[str, ...]:
    libraries = home / "libraries"
    return (
        str(libraries / _LOADER),
        "--inhibit-cache",  # the host's ld.so.cache names the host's libraries
        "--argv0",  # sys.executable and the search for the standard library start from it
        str(home / "bin" / _PYTHON),
        "--library-path",
        str(libraries),
        str(home / "libexec" / _PYTHON),
        "-B",  # byte code beside the sources would run unchecked and change the tree's digest
        "-I",
        "-S",
    )


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TZ": "UTC0"}


@contextmanager
def _made(debs: Sequence[Deb], cache: Path) -> Iterator[Path]:
    """Extract the files into a temporary directory beside their final one."""
    packages = [download_cache.checked(deb.artifact, cache) for deb in python_lock.packages(debs)]
    home = _home(debs, cache)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
        try:
            _extract(packages, work)
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"{home}: cannot be written: {error}",
            remedy="choose a writable directory with --cache DIR",
        ) from error


def _extract(packages: Sequence[Path], work: Path) -> None:
    """Lay the files out in a directory; raise `format_numbers.INTERPRETER` when this changes."""
    for package in packages:
        _unpack(package, work)
    wrapper = work / "bin" / _PYTHON
    wrapper.parent.mkdir()
    wrapper.write_text(_WRAPPER.format(loader=_LOADER, python=_PYTHON), encoding="utf-8")
    wrapper.chmod(0o755)
    work.chmod(0o755)


def _put(fresh: Path, home: Path, tree: str) -> None:
    """Move the files to their directory, over damaged ones unless another build was quicker."""
    aside = fresh.with_name(f"{fresh.name}.damaged")
    with suppress(FileNotFoundError):
        home.rename(aside)
    try:
        fresh.rename(home)
    except OSError:
        if not _is_whole(home, tree):
            raise
    finally:
        _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _unpack(package: Path, work: Path) -> None:
    for member, content in deb_file.members(package):
        for inside in _paths(member.name):
            path = work / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.issym():
                if "/" not in member.linkname:  # others lead outside, e.g. to /etc
                    path.symlink_to(member.linkname)
            elif member.isreg():
                with path.open("xb") as stream:
                    stream.write(content())
                path.chmod(0o755 if member.mode & 0o100 else 0o644)
            elif not member.isdir():
                raise IntegrityError(f"{package.name}: {member.name}: unexpected kind of file")


def _paths(name: str) -> Iterator[str]:
    """Yield the path of a package's file below the directory; none if it is not needed."""
    library = _LIBRARY.fullmatch(name)
    if name == f"usr/bin/{_PYTHON}":
        yield f"libexec/{_PYTHON}"
    elif library is not None:
        yield f"libraries/{library['name']}"
    elif name.startswith(f"usr/lib/{_PYTHON}/") and not _LEFT_OUT.search(name):
        yield name.removeprefix("usr/")
