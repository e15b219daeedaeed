"""The format that all locks share: a sealed text with one line per artifact.

The head contains two digests. `inputs` is the digest of what the lock was made from: if it differs
from that of today's inputs, the lock is stale. `content` is the digest of the lines below the head:
if it differs, somebody edited the lock by hand.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from images.errors import LockError
from images.util import limits, untrusted_files

_TITLE = "# Locked by `build.py lock`. Do not edit: change the inputs and lock again.\n"
_INPUTS = "# inputs sha256:"
_CONTENT = "# content sha256:"


@dataclass(frozen=True, slots=True)
class Sealed:
    """The content of a lock: the digest of its inputs, and its lines."""

    path: Path
    inputs: str
    lines: tuple[str, ...]


def seal(inputs: str, lines: list[str]) -> str:
    """Return the text of a lock.

    Args:
        inputs: the digest of its inputs, in hexadecimal.
        lines: its lines, in order.
    """
    body = "".join(f"{line}\n" for line in lines)
    content = hashlib.sha256(body.encode()).hexdigest()
    return f"{_TITLE}{_INPUTS}{inputs}\n{_CONTENT}{content}\n{body}"


def read(path: Path, *, remedy: str) -> Sealed:
    """Read a lock and check its seal.

    Args:
        path: the lock.
        remedy: the command that renews it, for messages.

    Raises:
        LockError: the lock is missing, has no head, or was edited by hand.
    """
    try:
        # As bytes: line ends are part of what is sealed.
        text = untrusted_files.whole(path, limits.LIST).decode()
    except FileNotFoundError:
        raise LockError(f"{path}: no such lock", remedy=remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(f"{path}: cannot be read: {error}", remedy=remedy) from error
    head, body = text[: len(_TITLE)], text[len(_TITLE) :]
    inputs_line, _, body = body.partition("\n")
    content_line, _, body = body.partition("\n")
    if (
        head != _TITLE
        or not inputs_line.startswith(_INPUTS)
        or not content_line.startswith(_CONTENT)
    ):
        raise LockError(f"{path}: not a lock: its head is missing or changed", remedy=remedy)
    if hashlib.sha256(body.encode()).hexdigest() != content_line[len(_CONTENT) :]:
        raise LockError(
            f"{path}: edited by hand: its lines do not have the digest in its head", remedy=remedy
        )
    return Sealed(path, inputs_line[len(_INPUTS) :], tuple(body.splitlines()))
