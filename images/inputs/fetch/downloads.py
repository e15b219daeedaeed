"""Downloads of locked files into the download cache.

An unfinished download stays beside the file as `<filename>.part`, and is resumed the next time.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from images.errors import FetchError, IntegrityError, StoreError
from images.http.retry import FinalError, Policy, TransientError
from images.http.session import public_url
from images.inputs.fetch import download_cache
from images.inputs.lock.artifact import Artifact

POLICY = Policy()
"""The retry policy of downloads that are given none."""

CONNECTIONS = 6
"""Connections at a time, where all files come from one index and one mirror."""

Advance = Callable[[int], None]
"""Called with the bytes of each piece that arrives; a negative number takes bytes back."""

_CHUNK = 1 << 20

_CHANGED = "if the index was right to change the file, lock again: python build.py lock"


class Downloads:
    """Downloads in the background, a few at a time.

    Use it as a context manager. Leaving it waits for downloads that are under way, and drops those
    that are not. Leaving it by an error aborts the former as well: they are resumed the next time.

    Args:
        cache: the download cache, created if it does not exist.
        jobs: connections at a time.
        advance: called with the bytes that arrive.
        policy: how often, and after which delays, a request is retried.
    """

    def __init__(
        self, cache: Path, *, jobs: int, advance: Advance, policy: Policy | None = None
    ) -> None:
        self._cache = cache
        self._advance = advance
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="download")
        # Here, since a build that downloads nothing loads no TLS.
        from images.inputs.fetch.file_http import FileClient

        self._client = FileClient()
        self._stop = threading.Event()
        self._policy = policy or POLICY

    def __enter__(self) -> Downloads:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def start(self, artifact: Artifact, url: str) -> Future[Path]:
        """Begin one download; the result of the future is the path of the cached file.

        The future raises `FetchError` if the file is unavailable, `IntegrityError` if it has
        another hash, and `StoreError` if it cannot be written.
        """
        return self._pool.submit(self._fetch, artifact, url)

    def _fetch(self, artifact: Artifact, url: str) -> Path:
        path = download_cache.cached(artifact, self._cache)
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with download_cache.locked_part(part) as stream:
                if download_cache.is_cached(artifact, self._cache):  # another build was faster
                    part.unlink()
                    self._advance(artifact.size)
                    return path
                self._fill(artifact, url, stream)
                part.replace(path)
                download_cache.mark_checked(artifact, path)
        except OSError as error:
            raise _cannot_write(path, error) from error
        return path

    def _fill(self, artifact: Artifact, url: str, stream: IO[bytes]) -> None:
        failures, most = 0, 0
        while True:
            try:
                digest = self._attempt(artifact, url, stream)
            except FinalError as error:
                raise FetchError(f"{artifact.filename}: {error}", remedy=error.remedy) from None
            except TransientError as error:
                have = stream.seek(0, os.SEEK_END)
                failures, most = (1, have) if have > most else (failures + 1, most)
                self._pause(failures, error, artifact, url)
                continue
            if digest == artifact.sha256:
                return
            self._advance(-artifact.size)
            stream.truncate(0)
            raise IntegrityError(
                f"SHA256 mismatch for {artifact.filename}: "
                f"expected '{artifact.sha256}', got '{digest}' from {public_url(url)}",
                remedy=_CHANGED,
            )

    def _pause(self, failures: int, error: TransientError, artifact: Artifact, url: str) -> None:
        """Wait before the next attempt, unless this was the last one that the policy allows."""
        known = urlsplit(url).scheme in ("", "file") or self._client.has_answered(url)
        if self._policy.is_exhausted(failures, reached=known):
            raise FetchError(
                f"{artifact.filename}: {failures} attempts failed, the last one: {error}",
                remedy="check the network and the index's settings, then run the same command: "
                "what was downloaded is kept",
            ) from None
        self._stop.wait(self._policy.delay(failures, error.after))
        if self._stop.is_set():
            raise CancelledError

    def _attempt(self, artifact: Artifact, url: str, stream: IO[bytes]) -> str:
        """Make one request from where the part file ends; return the SHA-256 of the whole file."""
        digest, have = _hash_so_far(stream, artifact.size)
        self._advance(have)
        counted = have
        try:
            for piece in self._body(url, have, stream, artifact.size):
                if self._stop.is_set():
                    raise CancelledError
                if counted + len(piece) > artifact.size:
                    stream.truncate(0)
                    too_long = f"more than the locked {artifact.size} bytes from {public_url(url)}"
                    if have:
                        raise TransientError(too_long)
                    raise IntegrityError(f"{artifact.filename}: {too_long}", remedy=_CHANGED)
                stream.write(piece)
                digest.update(piece)
                counted += len(piece)
                self._advance(len(piece))
            stream.flush()
            if counted != artifact.size:
                raise TransientError(f"{counted} of {artifact.size} bytes arrived")
            if have and digest.hexdigest() != artifact.sha256:
                stream.truncate(0)
                raise TransientError(
                    "the part that was downloaded earlier is of another file; starting over"
                )
        except BaseException:
            self._advance(-counted)
            raise
        return digest.hexdigest()

    def _body(self, url: str, have: int, stream: IO[bytes], size: int) -> Iterator[bytes]:
        if have == size:
            return
        if urlsplit(url).scheme in ("", "file"):
            yield from _local(url, have)
            return
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with self._client.get(url, headers) as response:
            if have and response.status_code != 206:
                stream.seek(0)
                stream.truncate()
                raise TransientError("the server does not support ranges; starting over")
            # Not decoded: some servers send a .tar.gz with a Content-Encoding.
            yield from response.raw.stream(_CHUNK, decode_content=False)


def _local(url: str, have: int) -> Iterator[bytes]:
    try:
        with Path(unquote(urlsplit(url).path)).open("rb") as source:
            source.seek(have)
            while piece := source.read(_CHUNK):
                yield piece
    except OSError as error:
        raise FinalError(str(error)) from error


def _hash_so_far(stream: IO[bytes], size: int) -> tuple[hashlib._Hash, int]:
    digest = hashlib.sha256()
    if stream.seek(0, os.SEEK_END) > size:
        stream.truncate(0)
    stream.seek(0)
    have = 0
    while piece := stream.read(_CHUNK):
        digest.update(piece)
        have += len(piece)
    return digest, have


def _cannot_write(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"{path}: no space left on the disk that holds the download cache",
            remedy="free some space or choose another directory with --cache DIR; "
            "what was downloaded is kept",
        )
    return StoreError(
        f"{path}: cannot be written: {error}",
        remedy="choose a writable directory with --cache DIR",
    )
