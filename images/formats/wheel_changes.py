"""Changes to the files of a wheel as they are installed: GPU code, and files that nothing uses.

A changed wheel has one more file in its .dist-info, `MODIFIED.json`, which says what was done to
which file and what its published hash is; RECORD has the hashes of what is installed. So an image
states its changes itself, wherever its layers come from (and the Apache License asks for a notice).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, NamedTuple, cast

from installer.records import Hash

from images.formats import wheel_record
from images.formats.libraries import elf_pages, gpu_code_plan
from images.formats.libraries.changed_stream import ChangedStream, Piece
from images.formats.libraries.gpu_code_plan import Plan
from images.formats.libraries.served_gpus import Served
from images.oci.layer.entry import Entry, of_bytes
from images.util import progress

NOTE = "MODIFIED.json"
"""The file in a changed wheel's .dist-info."""

_CHUNK = 1 << 20
_LIBRARY = re.compile(r".*\.so(\.[0-9.]+)?")
_CUBIN = re.compile(r".*[sS]m_?(?P<major>[0-9]{1,2})[0-9][af]?(?![0-9]).*\.cubin")


class Rules(NamedTuple):
    """The changes to one distribution.

    Attributes:
        served: the GPUs whose code stays; None leaves all GPU code as it is.
        licence: the licence (SPDX) that permits changes inside of files; "" if there are none.
        unused: paths in the image of files that are left out; `*` stands for any characters.
        debug: whether sections of debug information stay in libraries.
    """

    served: Served | None = None
    licence: str = ""
    unused: tuple[str, ...] = ()
    debug: bool = True


@dataclass(frozen=True)
class ChangedFile:
    """A library that was looked at, and may be installed with other bytes than the wheel's.

    Attributes:
        entry: installs it.
        digest: the hash of what is installed, or what returns it; cheap once that was read.
    """

    entry: Entry
    digest: Hash | Callable[[], Hash] | None


class Changes:
    """The changes to one wheel, made as its files pass.

    Args:
        rules: the rules.
        report: takes a line about GPU code that is not understood, and a summary.
    """

    def __init__(self, rules: Rules, report: Callable[[str], None] = lambda _: None) -> None:
        self._rules = rules
        self._report = report
        self._patterns = {path: pattern(path) for path in rules.unused}
        self._used: set[str] = set()
        self._files: dict[str, dict[str, Any]] = {}
        self._left_out: dict[str, str] = {}
        self._removed = 0

    @property
    def licence(self) -> str:
        """The licence that the wheel must be under; "" if it does not matter."""
        return self._rules.licence

    @property
    def _unused_by(self) -> str:
        if not self._rules.served:
            return "nothing in the image"
        majors = " or ".join(f"{major}.x" for major in self._rules.served.majors)
        return f"no GPU of compute capability {majors}"

    @property
    def idle(self) -> list[str]:
        """The rules about unused files that no file of the wheel matched."""
        return [path for path in self._patterns if path not in self._used]

    def leaves_out(self, entry: Entry, digest: Hash | None) -> bool:
        """Return whether a file is not installed, and note it.

        Args:
            entry: installs it as published.
            digest: its published hash.
        """
        found = [path for path, it in self._patterns.items() if it.fullmatch(entry.path)]
        self._used.update(found)
        if not (found or self._is_foreign(entry.path)):
            return False
        self._left_out[f"/{entry.path}"] = str(digest or "")
        self._removed += entry.size
        return True

    def _is_foreign(self, path: str) -> bool:
        """Return whether a file is a cubin that is named for a GPU that is not served."""
        served, found = self._rules.served, _CUBIN.fullmatch(path.rpartition("/")[2])
        return bool(served and found and int(found["major"]) not in served.majors)

    def changed(
        self, entry: Entry, digest: Hash | None, again: Callable[[], IO[bytes]]
    ) -> ChangedFile | None:
        """Return a library without the GPU code that no served GPU can load, and debug sections.

        None for any other file.

        Args:
            entry: installs it as published; its content is checked as it is read.
            digest: its published hash.
            again: opens its content when it was checked before.
        """
        served, debug = self._rules.served, self._rules.debug
        if (served is None and debug) or not _LIBRARY.fullmatch(entry.path):
            return None
        plan = gpu_code_plan.plan(entry.open, entry.size, served)
        pages = elf_pages.smaller(plan.headers, plan.dead, debug=debug) if plan.headers else ()
        for fault in plan.faults:
            self._report(f"/{entry.path}: {fault}: left as published")
        stages = [pieces for pieces in (plan.pieces, pages) if pieces]
        size = sum(piece.length for piece in stages[-1]) if stages else entry.size
        if stages or plan.faults:
            self._files[f"/{entry.path}"] = _described(plan, entry.size - size, digest)
        self._removed += max(entry.size - size, sum(plan.removed.values()))
        if not stages:
            return ChangedFile(replace(entry, open=again), digest)
        return _ChangedLibrary(replace(entry, size=size), stages, again).file

    def note(self, path: str) -> Entry | None:
        """Return the file that states the changes; None if there are none.

        Args:
            path: of the file.
        """
        if not (self._files or self._left_out):
            return None
        document: dict[str, Any] = {"modified_by": "roll-sglang-images"}
        if self._rules.served:
            majors, newest = self._rules.served
            document["gpu_code"] = {"majors": list(majors), "newest": newest}
        document |= {"files": self._files, "left_out": self._left_out}
        self._report(f"left out {progress.size(self._removed)} that {self._unused_by} can use")
        return of_bytes(path, json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")


class _ChangedLibrary:
    """A changed library; its hash is taken when it is read the first time.

    Args:
        entry: of the library, with its new size.
        stages: the pieces of which it is made, each stage of what the one before has made.
        again: opens the published file.
    """

    def __init__(
        self, entry: Entry, stages: Sequence[Sequence[Piece]], again: Callable[[], IO[bytes]]
    ) -> None:
        self._published = again
        self._stages = stages
        self._known: Hash | None = None
        self.file = ChangedFile(replace(entry, open=self._open), self._digest)

    def _open(self) -> IO[bytes]:
        stream = self._published()
        for pieces in self._stages:
            stream = cast(IO[bytes], ChangedStream(stream, pieces))
        return cast(IO[bytes], _Hashing(stream, self._remember))

    def _remember(self, digest: bytes) -> None:
        self._known = Hash("sha256", wheel_record.written(digest))

    def _digest(self) -> Hash:
        if self._known is None:
            with self._open() as stream:
                while stream.read(_CHUNK):
                    pass
        if self._known is None:
            raise AssertionError("a stream that was read to its end has its hash")
        return self._known


class _Hashing:
    """A stream; reading its end hands its SHA-256 on."""

    def __init__(self, stream: IO[bytes], finished: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._finished = finished
        self._hash = hashlib.sha256()

    def __enter__(self) -> _Hashing:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()

    def read(self, size: int = -1, /) -> bytes:
        piece = self._stream.read(size)
        self._hash.update(piece)
        if not piece or size < 0:
            self._finished(self._hash.digest())
        return piece


def pattern(path: str) -> re.Pattern[str]:
    """Return the pattern of paths in an image; `*` stands for any characters, including `/`."""
    parts = (re.escape(part) for part in path.removeprefix("/").split("*"))
    return re.compile(".*".join(parts))


def _described(plan: Plan, smaller_by: int, published: Hash | None) -> dict[str, Any]:
    found: dict[str, Any] = {"published": str(published or "")}
    if plan.removed:
        found["removed"] = plan.removed
    if smaller_by:
        found["smaller_by"] = smaller_by
    if plan.faults:
        found["left_as_published"] = list(plan.faults)
    return found


def published(note: str) -> dict[str, str]:
    """Return the published hashes of the files that a note is about, by their path in the image.

    Args:
        note: the text of a `MODIFIED.json`; "" for none.
    """
    try:
        document = json.loads(note or "{}")
        found = {path: one["published"] for path, one in document.get("files", {}).items()}
        found |= document.get("left_out", {})
        return {path.removeprefix("/"): str(digest) for path, digest in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # another builder's layer: what it installs is compared
