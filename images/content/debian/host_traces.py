"""The files that the builder's mmdebstrap and apt leave in a new root, replaced by fixed ones.

All other files are made by the image's own programs. In these directories each version of the
machine's programs leaves something else: user ids of that machine, files of package scripts in
`/run`, device nodes. Their content is therefore not taken from the root but listed here, as current
versions leave it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from images.errors import IntegrityError
from images.oci.layer.entry import Entry, of_bytes, of_symlink

_DIRECTORIES = ("dev/", "run/", "var/cache/apt/", "var/lib/apt/lists/")
_ACCOUNTS = "etc/passwd"
_ARCHITECTURES = "var/lib/dpkg/arch"
_SANDBOX = "_apt"
"""The account that apt downloads as; its id is that of the image, not of the machine."""

_FILLED = (
    of_symlink("dev/fd", "/proc/self/fd"),
    Entry("dev/pts", "dir", 0o755),
    Entry("dev/shm", "dir", 0o755),
    of_symlink("dev/stderr", "/proc/self/fd/2"),
    of_symlink("dev/stdin", "/proc/self/fd/0"),
    of_symlink("dev/stdout", "/proc/self/fd/1"),
    Entry("run/lock", "dir", 0o1777),
    Entry("var/cache/apt/archives", "dir", 0o755),
    of_bytes("var/cache/apt/archives/lock", b"", 0o640),
    of_bytes("var/lib/apt/lists/lock", b"", 0o640),
    of_bytes(_ARCHITECTURES, b"amd64\n"),
)
_OF_SANDBOX = ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial")


def replaced(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries of a new root, sorted by path, with fixed ones in place of the machine's.

    Raises:
        IntegrityError: the root has no account for apt.
    """
    kept = {
        entry.path: entry
        for entry in entries
        if not entry.path.startswith(_DIRECTORIES) and entry.path != _ARCHITECTURES
    }
    uid = _uid_of_sandbox(kept.get(_ACCOUNTS))
    partial = (replace(Entry(path, "dir", 0o700), uid=uid) for path in _OF_SANDBOX)
    found = [*kept.values(), *_FILLED, *partial]
    yield from sorted(found, key=lambda entry: entry.path.split("/"))


def _uid_of_sandbox(accounts: Entry | None) -> int:
    if accounts is not None:
        with accounts.open() as stream:
            for line in stream.read().decode("utf-8", "replace").splitlines():
                name, *rest = line.split(":")
                if name == _SANDBOX and len(rest) > 1 and rest[1].isdecimal():
                    return int(rest[1])
    raise IntegrityError(
        f"the base has no account {_SANDBOX!r}, which the package apt creates",
        remedy="python build.py lock --base",
    )
