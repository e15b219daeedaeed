"""Size limit of responses that are read into memory (errors, tokens, lists)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from images.errors import RegistryError
from images.util import limits

if TYPE_CHECKING:
    import requests

_PIECE = 1 << 12
"""Bytes read at a time: compressed content may be a thousand times as large once decoded."""


def bound(response: requests.Response) -> None:
    """Make reading more of a response than the limit an error."""
    raw: Any = response.raw
    raw.stream = _counted(response)


def _counted(response: requests.Response, most: int = limits.DOCUMENT) -> Any:
    stream = response.raw.stream

    def pieces(amount: int = _PIECE, decode_content: bool | None = None) -> Iterator[bytes]:
        total = 0
        for piece in stream(min(amount, _PIECE), decode_content=decode_content):
            total += len(piece)
            if total > most:
                host = response.url.partition("?")[0].rpartition("@")[2]
                raise RegistryError(
                    f"{host}: HTTP {response.status_code} with more than the limit of {most} bytes",
                    remedy="check the address: it may be that of a web page or a download",
                )
            yield piece

    return pieces
