"""What a person may have meant by a word that nothing is called."""

from __future__ import annotations

from collections.abc import Iterable

from images.errors import UsageError


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when one of the known words is near, or nothing."""
    import difflib  # only a faulty word needs it

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def no_image(
    name: str, targets: Iterable[str], images: Iterable[str], also: str = ""
) -> UsageError:
    """The error of a name that neither a target nor an image has.

    Args:
        name: the name.
        targets: the targets' ids.
        images: the names of the images in the store.
        also: what else may be named.
    """
    known = list(dict.fromkeys([*targets, *images]))
    return UsageError(
        f"no target and no image {name!r}{nearest(name, known)}",
        remedy=f"name one of {', '.join(known)}{also}",
    )
