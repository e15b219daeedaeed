#!/usr/bin/env python3
"""List the files of a machine by content, so that a bundle for it can leave them out.

Run it at the bundle's destination, on directories that are likely to have the same files: the
site-packages of its Python, an unpacked image, the blobs of an OCI layout.

    python3 inventory.py DIR... > FILE

It stands alone: Python 3.8's standard library and no other file.

Format: a line of JSON for each regular file, `[sha256, bytes, absolute path]`, and a last line
`{"files": COUNT}`, which a truncated list lacks.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Iterable, Iterator, Sequence, Tuple

MIN_SIZE = 16 * 1024
"""Bytes; naming a smaller file costs about as much as sending it."""

_CHUNK = 1 << 20

Item = Tuple[str, int, str]
"""SHA-256, bytes, absolute path."""


def files(directories: Iterable[Path], min_size: int = MIN_SIZE) -> Iterator[tuple[str, int]]:
    """Yield path and size of regular files; no symbolic links, and each hard-linked file once."""
    seen: set[tuple[int, int]] = set()
    for directory in directories:
        for folder, inner, names in os.walk(directory.absolute()):
            inner.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)  # noqa: PTH118  # a Path each would double the time
                try:
                    found = os.lstat(path)
                except OSError:
                    continue
                key = (found.st_dev, found.st_ino)
                if stat.S_ISREG(found.st_mode) and found.st_size >= min_size and key not in seen:
                    seen.add(key)
                    yield path, found.st_size


def sha256(path: str) -> str | None:
    """Return the hash of a file, or None if it cannot be read or is not a regular file."""
    found = hashlib.sha256()
    try:
        # Non-blocking: a pipe without a writer opens as well. Neither it nor a device is read.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as stream:  # noqa: PTH123
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            while True:
                piece = stream.read(_CHUNK)
                if not piece:
                    return found.hexdigest()
                found.update(piece)
    except OSError as error:
        print(f"left out: {error}", file=sys.stderr)
        return None


def take(directories: Sequence[Path], jobs: int, min_size: int = MIN_SIZE) -> Iterator[Item]:
    """Yield the inventory of some directories; hashing releases the interpreter lock."""
    found: list[tuple[str, int]] = list(files(directories, min_size))
    with ThreadPoolExecutor(jobs) as pool:
        hashes = pool.map(sha256, (path for path, _ in found))
        for (path, size), digest in zip(found, hashes):
            if digest is not None:
                yield digest, size, path


def write(items: Iterable[Item], out: IO[str]) -> tuple[int, int]:
    """Write an inventory; return the number of its files and their bytes."""
    count = total = 0
    for item in items:
        out.write(json.dumps(item) + "\n")
        count, total = count + 1, total + item[1]
    out.write(json.dumps({"files": count}) + "\n")
    return count, total


def open_closed() -> None:
    """Open closed standard streams.

    Otherwise `print` would write messages among the results, and files that are opened would get
    the streams' descriptors.
    """
    if sys.stdout is None:
        # Read-only: a result that is not delivered is an error, as on a full disk.
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `main` to a parser."""
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="what to list")
    parser.add_argument("--jobs", type=int, default=cores, help="files at a time (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Write the inventory to standard output."""
    for directory in options.directories:
        if not directory.is_dir():
            print(f"error: {directory}: not a directory", file=sys.stderr)
            return 2
    count, total = write(take(options.directories, max(1, options.jobs)), sys.stdout)
    print(f"{count} files, {total / 1e9:.2f} GB", file=sys.stderr)
    return 0


def main() -> int:
    """Run the command line and return the exit code."""
    open_closed()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_options(parser)
    try:
        code = run(parser.parse_args())
        sys.stdout.flush()
    except OSError as error:
        # A full disk, or a pipe whose reader has closed it.
        print(f"error: the inventory is not written in full: {error}", file=sys.stderr)
        # Python would report the same error again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 7
    return code


if __name__ == "__main__":
    sys.exit(main())
