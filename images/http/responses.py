"""Answers of servers that are read as a whole (errors, tokens, lists): none is over a limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from images.errors import RegistryError
from images.util import limits

if TYPE_CHECKING:
    import requests

_PACKED = 1 << 12
"""Bytes of an answer at a time: what is little on the way may be a thousand times as much here."""


def bound(response: requests.Response) -> None:
    """Let no more than a limit of an answer be read."""
    raw: Any = response.raw
    raw.stream = _counted(response)


def _counted(response: requests.Response, most: int = limits.DOCUMENT) -> Any:
    stream = response.raw.stream

    def pieces(amount: int = _PACKED, decode_content: bool | None = None) -> Iterator[bytes]:
        total = 0
        for piece in stream(min(amount, _PACKED), decode_content=decode_content):
            total += len(piece)
            if total > most:
                host = response.url.partition("?")[0].rpartition("@")[2]
                raise RegistryError(
                    f"{host}: HTTP {response.status_code} with more than the limit of {most} bytes",
                    remedy="is it the right address, and no page for people or a download?",
                )
            yield piece

    return pieces
