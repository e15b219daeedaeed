"""The image's own Python, run on the host without chroot and without root.

Byte code and wheels made from sdists have to come from the image's Python, not from the builder's.
Its files are extracted from the base's .debs into the download cache and started through their own
loader, so neither the host's Python nor its C library matters.

A download cache may be damaged, or come from somebody else. So the digest of the extracted files is
locked, and they are hashed before they are run, once in a process; what is there and is not them is
replaced. Nothing is written beside them afterwards: they hold no byte code, and make none.
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
# Modules that would need more libraries: terminals and databases are of no use to a builder.
# Without them none can load a library of the host's by accident.
_LEFT_OUT = re.compile(r"lib-dynload/(_curses|_dbm|_gdbm|nis|readline|_tkinter)")
_OF_LOADER = frozenset(":;$")
_LIBRARY = re.compile(r"(?:usr/)?lib/x86_64-linux-gnu/(?P<name>[^/]+\.so[^/]*)")

# The program that `sys.executable` names: child processes of a build start the same way.
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
        env: the whole environment to run it with. Nothing of the builder's may be added that
            starts with `PYTHON` or `LD_`.
        version: e.g. `3.11.2`.
        home: the directory that all of it is in; None of one that is the system's.
    """

    command: tuple[str, ...]
    env: dict[str, str]
    version: str
    home: Path | None = None

    def moved(self, home: str) -> tuple[str, ...]:
        """The command line where its directory has another path."""
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
    """The packages that `extracted` will read: none when the interpreter is there already.

    Raises:
        LockError: the base does not have a package that the interpreter is made of, or the lock of
            the extracted files is not of this base.
    """
    return (
        [] if _is_whole(_home(debs, cache), python_lock.read(debs)) else python_lock.packages(debs)
    )


def extracted(debs: Sequence[Deb], cache: Path) -> Interpreter:
    """The interpreter of a base; extracted on first use, safe for several builds at once.

    Args:
        debs: the locked packages of the base.
        cache: the download cache, which has those that `missing` names.

    Raises:
        LockError: the base does not have a package that the interpreter is made of, or what is
            extracted is not what was locked.
        IntegrityError: a package is broken.
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
    """Whether the loader takes a path as it is: see `extracted` for one that it does not."""
    return not _OF_LOADER.intersection(path)


def _literal(home: Path) -> Path:
    """A name of the directory that the loader takes as it is, as long as this process lives.

    The loader splits lists of directories at `:` and `;` and gives `$` a meaning, there and in the
    names of modules that Python loads; none of it can be quoted.
    """
    if is_literal(str(home)):
        return home
    return Path(f"/proc/{os.getpid()}/fd/{_opened(home.parent)}", home.name)


@functools.cache
def _opened(directory: Path) -> int:
    """A descriptor that stays open: the interpreter loads modules until the process ends."""
    return os.open(directory, os.O_PATH | os.O_DIRECTORY)


_hashed: set[tuple[Path, str]] = set()
"""Directories that this process has hashed, and their digests."""


def _is_whole(home: Path, tree: str) -> bool:
    if (home, tree) not in _hashed:
        try:
            if tree_digest.of(home) != tree:
                return False
        except OSError:  # not there, or not to be read: then it is made
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
        "--argv0",  # what sys.executable and the search for the standard library start from
        str(home / "bin" / _PYTHON),
        "--library-path",
        str(libraries),
        str(home / "libexec" / _PYTHON),
        "-B",  # byte code beside the sources would be run unread, and would change the tree
        "-I",
        "-S",
    )


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TZ": "UTC0"}


@contextmanager
def _made(debs: Sequence[Deb], cache: Path) -> Iterator[Path]:
    """The files in a directory of their own, beside their place; gone in the end."""
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
            remedy="choose a place that you may write with --cache DIR",
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
    """Give the files their place; what is there is damaged, unless another build was quicker."""
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
        for place in _places(member.name):
            path = work / place
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.issym():
                if "/" not in member.linkname:  # others lead out, such as to /etc
                    path.symlink_to(member.linkname)
            elif member.isreg():
                with path.open("xb") as stream:
                    stream.write(content())
                path.chmod(0o755 if member.mode & 0o100 else 0o644)
            elif not member.isdir():
                raise IntegrityError(f"{package.name}: {member.name}: an unexpected kind of file")


def _places(name: str) -> Iterator[str]:
    """Where a package's file goes; nowhere if the interpreter does not need it."""
    library = _LIBRARY.fullmatch(name)
    if name == f"usr/bin/{_PYTHON}":
        yield f"libexec/{_PYTHON}"
    elif library is not None:
        yield f"libraries/{library['name']}"
    elif name.startswith(f"usr/lib/{_PYTHON}/") and not _LEFT_OUT.search(name):
        yield name.removeprefix("usr/")
