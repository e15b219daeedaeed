"""The licence of a wheel, as the wheel itself states it.

Metadata alone is not enough: NVIDIA's wheels of one template say `BSD-3-Clause` beside the text of
an end-user licence, and `NVIDIA-Proprietary` beside that of BSD. So the text decides where the
wheel has one, and METADATA where it has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from images.errors import IntegrityError

if TYPE_CHECKING:
    from email.message import Message

PERMITTING = {
    "Apache-2.0": "apache license version 2.0, january 2004",
    "BSD-3-Clause": "redistribution and use in source and binary forms, with or without "
    "modification, are permitted",
    "MIT": "permission is hereby granted, free of charge, to any person",
}
"""The licences (SPDX) that permit to change files, each with words of its text."""

_BEGINNING = 8000
"""Characters in which a licence's own words are: further on are those of what it contains."""


def check(wheel: str, licence: str, texts: Mapping[str, str], metadata: Message) -> None:
    """Refuse a wheel that is not under a licence.

    Args:
        wheel: the wheel's file name, for messages.
        licence: one of `PERMITTING`.
        texts: the licence files of its .dist-info, by name.
        metadata: its METADATA.

    Raises:
        IntegrityError: it has the text of another licence, or no text and other metadata.
    """
    if texts:
        if any(PERMITTING[licence] in _plain(text) for text in texts.values()):
            return
        raise _other(wheel, licence, f"{', '.join(sorted(texts))} is another text")
    stated = metadata["License-Expression"] or metadata["License"] or "no licence"
    if str(stated).strip() != licence:
        raise _other(wheel, licence, f"it has no text of one, and METADATA states {stated!r}")


def _plain(text: str) -> str:
    """Return the beginning of a text in lower case, with single spaces."""
    return " ".join(text[:_BEGINNING].lower().split())


def _other(wheel: str, licence: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"{wheel}: not under {licence}, as matrix.yaml has it: {why}",
        remedy="read the wheel's licence; if it does not permit changes, take the distribution out "
        "of `gpu_code:` and `debug_sections:`",
    )


def is_text(member: str, dist_info: str) -> bool:
    """Return whether a file of a wheel is a text of its licence (PEP 639, and wheels before it)."""
    head, _, rest = member.partition("/")
    name = rest.removeprefix("licenses/").lower()
    return head == dist_info and "/" not in name and name.startswith(("license", "licence"))
