"""Work on a stream in a thread of its own, a little ahead of its reader."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Generator, Iterator, TypeVar

if TYPE_CHECKING:
    from queue import Queue

_Piece = TypeVar("_Piece")
_DEPTH = 8  # pieces that are made before they are read
_POLL = 0.05  # seconds


def ahead(pieces: Iterator[_Piece]) -> Generator[_Piece, None, None]:
    """Yield the same pieces, made by a thread; closing ends the thread and closes `pieces`.

    hashlib, zlib, zstd and files release the GIL: a chain of these uses one core per link.
    """
    box: Queue[_Piece | BaseException | None] = queue.Queue(_DEPTH)
    stop = threading.Event()
    worker = threading.Thread(target=_fill, args=(pieces, box, stop), daemon=True)
    worker.start()
    try:
        while True:
            found = box.get()
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        stop.set()
        while worker.is_alive():
            try:
                box.get(timeout=_POLL)
            except queue.Empty:
                continue
        worker.join()


def _fill(
    pieces: Iterator[_Piece], box: Queue[_Piece | BaseException | None], stop: threading.Event
) -> None:
    try:
        for piece in pieces:
            if stop.is_set():
                return
            box.put(piece)
        box.put(None)
    except BaseException as error:
        box.put(error)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
