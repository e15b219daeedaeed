"""Damage that must be found."""

from __future__ import annotations

from pathlib import Path


def flipped(content: bytes) -> bytes:
    """The same with one bit changed, in its middle."""
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


def flip(path: Path) -> None:
    """Change one bit of a file; other links to it stay as they are."""
    content = flipped(path.read_bytes())
    path.unlink()
    path.write_bytes(content)
