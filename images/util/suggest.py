"""Suggestions for misspelt words: "did you mean …?"."""

from __future__ import annotations

from collections.abc import Iterable

from images.errors import UsageError


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` if a known word is similar, else an empty text."""
    import difflib  # only needed for an unknown word

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def no_image(
    name: str, targets: Iterable[str], images: Iterable[str], also: str = ""
) -> UsageError:
    """Return the error for a name that is neither a target nor an image.

    Args:
        name: the name.
        targets: the targets' ids.
        images: the names of the images in the store.
        also: what else can be named.
    """
    known = list(dict.fromkeys([*targets, *images]))
    return UsageError(
        f"no target and no image {name!r}{nearest(name, known)}",
        remedy=f"name one of {', '.join(known)}{also}",
    )
