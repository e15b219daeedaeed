"""Which packages made an image grow, against an earlier one of its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from images.analysis import compare, packages, summary
from images.analysis.summary import Outline, PackageKind, Part
from images.build.titles import Kind
from images.oci.image import Image
from images.oci.store.store import Store
from images.util.progress import size

_NAMED = 5
"""Layers that the error names: the first of them is nearly always the cause."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A layer that grew, or is new.

    Attributes:
        what: its package with both versions, or its title and the packages in it that differ.
        bytes: compressed, that it is larger than what was in its place.
    """

    what: str
    bytes: int


def blamed(name: str, image: Image, store: Store) -> Iterator[str]:
    """Lines that name what grew most, or what is largest where there is nothing to compare with.

    Raises:
        IntegrityError: a layer must be looked into and is damaged.
    """
    made = summary.of_image(name, image)
    if name in store.images():
        before = summary.of_image(name, store.load(name))
        if grown := growths(before, made, store):
            yield f"what grew most since {(before.digest or '')[:19]} ({exact(before.size)}):"
            yield from (f"  +{size(item.bytes)}  {item.what}" for item in grown)
            return
    yield "its largest layers:"
    largest = sorted(made.parts, key=lambda part: -part.size)[:_NAMED]
    yield from (f"  {size(part.size)}  {part.title}" for part in largest)


def growths(before: Outline, made: Outline, store: Store) -> list[Growth]:
    """The layers of an image that grew most against another one, the most grown first.

    Raises:
        IntegrityError: a layer must be looked into and is damaged.
    """
    had, has = set(before.identities), set(made.identities)
    gone = [part for part in before.parts if part.identity not in has]
    came = [part for part in made.parts if part.identity not in had]
    sizes = {part.name.any_version: part.size for part in gone}
    grown = [(part.size - sizes.get(part.name.any_version, 0), part) for part in came]
    grown.sort(key=lambda item: -item[0])
    differ = {(change.kind, change.name): change for change in compare.changes(gone, came, store)}
    return [
        Growth(_described(part, differ, store), more) for more, part in grown[:_NAMED] if more > 0
    ]


def _described(
    part: Part, differ: Mapping[tuple[PackageKind, str], compare.Change], store: Store
) -> str:
    held = packages.packages(part, store)
    words = [
        _words(change) for package in held if (change := differ.get((package.kind, package.name)))
    ]
    if len(held) == 1 and words and part.name.kind is not Kind.BUCKET:
        return words[0]
    return f"{part.title}: {', '.join(words)}" if words else part.title


def _words(change: compare.Change) -> str:
    if change.old is None:
        return f"{change.name} {change.new} (new)"
    return f"{change.name} {change.old} -> {change.new}"


def exact(amount: int) -> str:
    """Bytes with all digits that count: 4.30 GB may be more than 4.3GB."""
    return f"{amount / 10**9:.3f} GB" if amount >= 10**9 else size(amount)
