"""Upload of one blob, with retries and resumption.

Specification: OCI Distribution Spec 1.1, "Pushing blobs".

A small blob goes in one PUT, a large one as one streamed PATCH: what Docker, skopeo and
containerd send, so every registry accepts it. When the connection breaks, the registry is asked how
far it got, and the rest follows as a PATCH with a Content-Range. Some registries, Distribution 2.8
among them, forget an interrupted upload: there it starts anew. Where a proxy allows no body of
that size, the blob is sent in chunks.
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

from images.errors import IntegrityError, StoreError
from images.http.retry import TransientError
from images.oci.registry.client import Registry
from images.oci.registry.refusals import PayloadTooLargeError
from images.oci.registry.upload_session import UploadExpiredError, UploadSession

if TYPE_CHECKING:
    from _typeshed import SupportsRead

_SMALL = 4 << 20
"""Bytes up to which a blob is read into memory and sent in one request."""

_PIECE = 128 << 10
"""Bytes per send(): each must be sent within the connect timeout, on slow networks as well."""

CHUNKS = (64 << 20, 4 << 20)
"""Bytes of a chunk where whole blobs are refused: usual limits of proxies, then the least known."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob in a store.

    Attributes:
        path: its file.
        digest: `sha256:…` of its bytes.
        size: its bytes.
    """

    path: Path
    digest: str
    size: int

    def damaged(self, found: str) -> IntegrityError:
        """Return the error for a blob whose bytes do not have its digest."""
        return IntegrityError(
            f"{self.path.parents[2]}: blob {self.digest} is damaged: {found}; it was not pushed",
            remedy=f"python build.py gc --damaged --store {self.path.parents[2]}, "
            "then build the target again and push",
        )


class BodyLimit:
    """The largest accepted request body; what one upload learns counts for all of a push."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = list(CHUNKS)
        self._chunk: int | None = None

    @property
    def chunk(self) -> int | None:
        """Bytes of a chunk; None where whole blobs are accepted."""
        return self._chunk

    def shrink(self, tried: int) -> bool:
        """Use less than `tried` bytes from now on; return whether there is a smaller size."""
        with self._lock:
            while self._left and (self._chunk is None or self._chunk >= tried):
                self._chunk = self._left.pop(0)
            return self._chunk is not None and self._chunk < tried


def send(
    registry: Registry, blob: StoredBlob, advance: Callable[[int], None], limit: BodyLimit
) -> int:
    """Upload a blob; it is hashed while it is sent.

    Args:
        registry: the repository that it goes to.
        blob: the blob.
        advance: called with bytes sent; negative when bytes must be resent.
        limit: of request bodies.

    Returns:
        The bytes sent, those sent twice included.

    Raises:
        IntegrityError: the blob is damaged; nothing of it is left in the registry.
        StoreError: it cannot be read.
        RegistryError: the registry refuses it, or no attempt is left.
    """
    upload = _SingleUpload if blob.size <= _SMALL else _StreamedUpload
    return upload(registry, blob, advance, limit).run()


class _Upload:
    """Attempts until the blob is in the repository."""

    def __init__(
        self,
        registry: Registry,
        blob: StoredBlob,
        advance: Callable[[int], None],
        limit: BodyLimit,
    ) -> None:
        self._registry = registry
        self._blob = blob
        self._advance = advance
        self._limit = limit
        self._shown = 0
        self.sent = 0
        self._finishing = False

    def run(self) -> int:
        """Repeat attempts until one succeeds or none is left; return the bytes sent."""
        failures, most = 0, 0
        try:
            while True:
                try:
                    self._attempt()
                    return self.sent
                except TransientError as error:
                    have = self._confirmed()
                    failures, most = (1, have) if have > most else (failures + 1, most)
                    doing = f"sending {self._blob.digest[:19]}"
                    self._registry.transport.pause(failures, error, doing)
                    if self._finishing and self._is_there():
                        return self.sent
        except BaseException:
            self._show(0)
            raise

    def _attempt(self) -> None:
        raise NotImplementedError

    def _confirmed(self) -> int:
        """Return the number of bytes that the registry is known to have."""
        return 0

    def _is_there(self) -> bool:
        """Return whether only the response to the last request was lost."""
        there = self._registry.has_blob(self._blob.digest, self._blob.size)
        if there:
            self._show(self._blob.size)
        return there

    def _show(self, position: int) -> None:
        # A closed terminal must not be taken for a broken connection.
        with suppress(OSError):
            self._advance(position - self._shown)
        self._shown = position


class _SingleUpload(_Upload):
    """POST, then PUT with the whole blob; hashed before the first byte is sent."""

    def _attempt(self) -> None:
        content = _read(self._blob)
        session = UploadSession.begin(self._registry)
        self._finishing = True
        self.sent += len(content)
        session.finish(self._blob.digest, content)
        self._show(self._blob.size)


class _StreamedUpload(_Upload):
    """POST, PATCH with the blob or its chunks, PUT."""

    def __init__(
        self,
        registry: Registry,
        blob: StoredBlob,
        advance: Callable[[int], None],
        limit: BodyLimit,
    ) -> None:
        super().__init__(registry, blob, advance, limit)
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._session: UploadSession | None = None
        self._offset = 0
        self._interrupted = False

    def _confirmed(self) -> int:
        return self._offset

    def _attempt(self) -> None:
        try:
            session = self._resume()
            while self._offset < self._blob.size:
                session = self._append(session)
            self._check(session)
            self._finishing = True
            session.finish(self._blob.digest)
        except UploadExpiredError:
            self._session, self._offset = None, 0
            raise

    def _resume(self) -> UploadSession:
        """Return a session: after an interrupted request the same one, where that got to."""
        session = self._session
        if session is not None and self._interrupted:
            try:
                self._offset = session.received()
            except UploadExpiredError:
                session = self._session = None
        if session is None:
            session = UploadSession.begin(self._registry)
            self._offset = 0
        self._session, self._interrupted = session, False
        if self._offset > self._blob.size:
            raise UploadExpiredError("the registry has more bytes of an upload than the blob has")
        self._catch_up()
        self._show(self._offset)
        return session

    def _catch_up(self) -> None:
        """Hash the bytes that the registry has and that were not hashed yet."""
        for piece in _pieces(self._blob, self._hashed, self._offset):
            self._hash.update(piece)
            self._hashed += len(piece)

    def _append(self, session: UploadSession) -> UploadSession:
        """Send the rest of the blob, or its next chunk; return the session to go on with."""
        begin, end = self._offset, self._blob.size
        if chunk := self._limit.chunk:
            end = min(end, begin + max(chunk, session.min_chunk))
        whole = begin == 0 and end == self._blob.size
        try:
            session.append(
                lambda: cast("SupportsRead[bytes]", _Body(self, begin, end)),
                None if whole else f"{begin}-{end - 1}",
            )
        except PayloadTooLargeError:
            self._interrupted = True
            if not self._limit.shrink(end - begin):
                raise
            return self._resume()
        except (TransientError, CancelledError):
            self._interrupted = True
            raise
        self._offset = end
        return session

    def _check(self, session: UploadSession) -> None:
        """Compare the digest before the registry makes a blob of what it has."""
        found = f"sha256:{self._hash.hexdigest()}"
        if self._hashed == self._blob.size and found == self._blob.digest:
            return
        session.cancel()
        raise self._blob.damaged(f"its bytes have the digest {found}")

    def pieces(self, begin: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `begin` to `end`; hash those that were not hashed yet."""
        self._show(begin)
        position = begin
        for piece in _pieces(self._blob, begin, end):
            self._registry.transport.check_stopped()
            if position + len(piece) > self._hashed:
                self._hash.update(piece[max(0, self._hashed - position) :])
                self._hashed = position + len(piece)
            position += len(piece)
            yield piece
            self.sent += len(piece)
            self._show(position)


class _Body:
    """A request body that has a length and reads its bytes as they are sent."""

    def __init__(self, upload: _StreamedUpload, begin: int, end: int) -> None:
        self._upload, self._begin, self._end = upload, begin, end

    def __len__(self) -> int:
        return self._end - self._begin

    def __iter__(self) -> Iterator[bytes]:
        return self._upload.pieces(self._begin, self._end)


def _pieces(blob: StoredBlob, begin: int, end: int) -> Iterator[bytes]:
    try:
        with blob.path.open("rb", buffering=0) as stream:
            stream.seek(begin)
            while begin < end:
                piece = stream.read(min(_PIECE, end - begin))
                if not piece:
                    raise blob.damaged(f"it ends after {begin} bytes instead of {blob.size}")
                begin += len(piece)
                yield piece
    except FileNotFoundError:
        raise blob.damaged("it is missing") from None
    except OSError as error:
        # Not re-raised as OSError: the HTTP client would treat it as a lost connection.
        raise StoreError(f"{blob.path}: cannot be read: {error}") from error


def _read(blob: StoredBlob) -> bytes:
    content = b"".join(_pieces(blob, 0, blob.size))
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != blob.digest:
        raise blob.damaged(f"its bytes have the digest {found}")
    return content
