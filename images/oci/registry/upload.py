"""One blob into a registry, over whatever breaks on the way.

Specification: OCI Distribution Spec 1.1, "Pushing blobs".

A small blob goes in one PUT, a large one as one streamed PATCH: what Docker, skopeo and
containerd send, so every registry takes it. When the connection breaks, the registry is asked how
far it got, and the rest follows as a PATCH with a Content-Range. Some registries, Distribution 2.8
among them, forget an upload that was torn: there it starts anew. Where a proxy allows no body of
that size, the blob is cut into chunks.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from images.errors import IntegrityError, RegistryError, StoreError
from images.http.retry import TransientError
from images.oci.registry.client import PayloadTooLargeError, Registry, UploadExpiredError

if TYPE_CHECKING:
    from _typeshed import SupportsRead

_SMALL = 4 << 20
"""Bytes up to which a blob is held in memory and sent in one request."""

_PIECE = 128 << 10
"""Bytes per send(): each must go out within the connect timeout, on slow lines as well."""

CHUNKS = (64 << 20, 4 << 20)
"""Bytes of a chunk where no whole blob is taken: proxies' limits, then the least known (4 MiB)."""


@dataclass(frozen=True, slots=True)
class Source:
    """A blob as it lies in a store."""

    path: Path
    digest: str
    size: int

    def damaged(self, found: str) -> IntegrityError:
        """The error for a blob whose bytes are not what its name says."""
        return IntegrityError(
            f"{self.path.parents[2]}: blob {self.digest} is damaged: {found}; it was not pushed",
            remedy=f"python build.py gc --damaged --store {self.path.parents[2]}, "
            "then build the target again and push",
        )


class Sizes:
    """How large a request body may be; what one upload learns holds for all of a push."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = list(CHUNKS)
        self._chunk: int | None = None

    @property
    def chunk(self) -> int | None:
        """Bytes of a chunk; None where whole blobs are taken."""
        return self._chunk

    def shrink(self, tried: int) -> bool:
        """Use less than `tried` bytes from now on; whether there is a smaller size."""
        with self._lock:
            while self._left and (self._chunk is None or self._chunk >= tried):
                self._chunk = self._left.pop(0)
            return self._chunk is not None and self._chunk < tried


def send(registry: Registry, source: Source, advance: Callable[[int], None], sizes: Sizes) -> int:
    """Send a blob; it is hashed on its way.

    Args:
        registry: where to.
        source: the blob.
        advance: told of bytes as they go out; negative when some must go again.
        sizes: how large a body may be.

    Returns:
        The bytes that went out, those that went twice included.

    Raises:
        IntegrityError: the blob is damaged; nothing of it is left in the registry.
        StoreError: it cannot be read.
        RegistryError: the registry refuses it, or the attempts are used up.
    """
    sender = _Small if source.size <= _SMALL else _Large
    return sender(registry, source, advance, sizes).run()


class _Sender:
    """Attempts until the blob is there."""

    def __init__(
        self, registry: Registry, source: Source, advance: Callable[[int], None], sizes: Sizes
    ) -> None:
        self._registry = registry
        self._source = source
        self._advance = advance
        self._sizes = sizes
        self._shown = 0
        self.sent = 0
        self._finishing = False

    def run(self) -> int:
        """Try until it is done or the policy says that it is enough; gives the bytes sent."""
        failures, most = 0, 0
        try:
            while True:
                try:
                    self._attempt()
                    return self.sent
                except TransientError as error:
                    have = self._confirmed()
                    failures, most = (1, have) if have > most else (failures + 1, most)
                    doing = f"sending {self._source.digest[:19]}"
                    self._registry.transport.pause(failures, error, doing)
                    if self._finishing and self._is_there():
                        return self.sent
        except BaseException:
            self._show(0)
            raise

    def _attempt(self) -> None:
        raise NotImplementedError

    def _confirmed(self) -> int:
        """Bytes that the registry is known to have."""
        return 0

    def _is_there(self) -> bool:
        """Whether only the answer to the last request was lost."""
        there = self._registry.has_blob(self._source.digest, self._source.size)
        if there:
            self._show(self._source.size)
        return there

    def _show(self, position: int) -> None:
        # A terminal that is gone must not be taken for a connection that broke.
        with suppress(OSError):
            self._advance(position - self._shown)
        self._shown = position


class _Small(_Sender):
    """POST, then PUT with all of it; hashed before the first byte goes out."""

    def _attempt(self) -> None:
        content = _read(self._source)
        location, _ = self._registry.start_upload()
        self._finishing = True
        self.sent += len(content)
        self._registry.finish(location, self._source.digest, content)
        self._show(self._source.size)


class _Large(_Sender):
    """POST, PATCH, PUT."""

    def __init__(
        self, registry: Registry, source: Source, advance: Callable[[int], None], sizes: Sizes
    ) -> None:
        super().__init__(registry, source, advance, sizes)
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._location: str | None = None
        self._offset = 0
        self._torn = False
        self._least = 0

    def _confirmed(self) -> int:
        return self._offset

    def _attempt(self) -> None:
        try:
            location = self._begun()
            while self._offset < self._source.size:
                location = self._part(location)
            self._check()
            self._finishing = True
            self._registry.finish(location, self._source.digest)
        except UploadExpiredError:
            self._location, self._offset = None, 0
            raise

    def _begun(self) -> str:
        """An upload, after a torn one where that got to."""
        if self._torn and self._location is not None:
            try:
                self._location, self._offset = self._registry.uploaded(self._location)
            except UploadExpiredError:
                self._location = None
        if self._location is None:
            self._location, self._least = self._registry.start_upload()
            self._offset = 0
        self._torn = False
        if self._offset > self._source.size:
            raise UploadExpiredError("the registry has more of an upload than there is")
        self._catch_up()
        self._show(self._offset)
        return self._location

    def _catch_up(self) -> None:
        """Hash what the registry has and we have not sent yet."""
        for piece in _pieces(self._source, self._hashed, self._offset):
            self._hash.update(piece)
            self._hashed += len(piece)

    def _part(self, location: str) -> str:
        begin, end = self._offset, self._source.size
        if chunk := self._sizes.chunk:
            end = min(end, begin + max(chunk, self._least))
        whole = begin == 0 and end == self._source.size
        try:
            following = self._registry.send_part(
                location,
                lambda: cast("SupportsRead[bytes]", _Part(self, begin, end)),
                None if whole else f"{begin}-{end - 1}",
            )
        except PayloadTooLargeError as error:
            self._torn = True
            if not self._sizes.shrink(end - begin):
                raise RegistryError(str(error)) from None
            return self._begun()
        except (TransientError, CancelledError):
            self._torn = True
            raise
        self._location, self._offset = following, end
        return following

    def _check(self) -> None:
        """Compare the digest before the registry is told to make a blob of what it has."""
        found = f"sha256:{self._hash.hexdigest()}"
        if self._hashed == self._source.size and found == self._source.digest:
            return
        if self._location is not None:
            self._registry.cancel(self._location)
        raise self._source.damaged(f"its bytes have the digest {found}")

    def pieces(self, begin: int, end: int) -> Iterator[bytes]:
        """The bytes from `begin` to `end`, hashed where they were not before."""
        self._show(begin)
        position = begin
        for piece in _pieces(self._source, begin, end):
            self._registry.transport.check_stopped()
            if position + len(piece) > self._hashed:
                self._hash.update(piece[max(0, self._hashed - position) :])
                self._hashed = position + len(piece)
            position += len(piece)
            yield piece
            self.sent += len(piece)
            self._show(position)


class _Part:
    """A request body that has a length and makes its bytes as they are sent."""

    def __init__(self, sender: _Large, begin: int, end: int) -> None:
        self._sender, self._begin, self._end = sender, begin, end

    def __len__(self) -> int:
        return self._end - self._begin

    def __iter__(self) -> Iterator[bytes]:
        return self._sender.pieces(self._begin, self._end)


def _pieces(source: Source, begin: int, end: int) -> Iterator[bytes]:
    try:
        with source.path.open("rb", buffering=0) as stream:
            stream.seek(begin)
            while begin < end:
                piece = stream.read(min(_PIECE, end - begin))
                if not piece:
                    raise source.damaged(f"it ends after {begin} bytes instead of {source.size}")
                begin += len(piece)
                yield piece
    except FileNotFoundError:
        raise source.damaged("it is missing") from None
    except OSError as error:
        # Not as it is: what sends the bytes would take it for a broken connection.
        raise StoreError(f"{source.path}: cannot be read: {error}") from error


def _read(source: Source) -> bytes:
    content = b"".join(_pieces(source, 0, source.size))
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != source.digest:
        raise source.damaged(f"its bytes have the digest {found}")
    return content
