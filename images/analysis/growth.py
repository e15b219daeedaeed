"""Packages that made an image grow, compared with an earlier one of its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from images.analysis import compare, packages, summary
from images.analysis.summary import ImageSummary, LayerSummary, PackageKind
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
        bytes: compressed, by which it is larger than its predecessor.
    """

    what: str
    bytes: int


def blamed(name: str, image: Image, store: Store) -> Iterator[str]:
    """Make lines that name what grew most, or what is largest where nothing can be compared.

    Raises:
        IntegrityError: a layer must be read and is damaged.
    """
    made = summary.of_image(name, image)
    if name in store.images():
        before = summary.of_image(name, store.load(name))
        if grown := growths(before, made, store):
            yield f"what grew most since {(before.digest or '')[:19]} ({exact(before.size)}):"
            yield from (f"  +{size(item.bytes)}  {item.what}" for item in grown)
            return
    yield "its largest layers:"
    largest = sorted(made.layers, key=lambda layer: -layer.size)[:_NAMED]
    yield from (f"  {size(layer.size)}  {layer.title}" for layer in largest)


def growths(before: ImageSummary, made: ImageSummary, store: Store) -> list[Growth]:
    """Return the layers that grew most since another image, the most grown first.

    Raises:
        IntegrityError: a layer must be read and is damaged.
    """
    had, has = set(before.identities), set(made.identities)
    gone = [layer for layer in before.layers if layer.identity not in has]
    came = [layer for layer in made.layers if layer.identity not in had]
    sizes = {layer.name.any_version: layer.size for layer in gone}
    grown = [(layer.size - sizes.get(layer.name.any_version, 0), layer) for layer in came]
    grown.sort(key=lambda item: -item[0])
    differ = {(change.kind, change.name): change for change in compare.changes(gone, came, store)}
    return [
        Growth(_described(layer, differ, store), more) for more, layer in grown[:_NAMED] if more > 0
    ]


def _described(
    layer: LayerSummary, differ: Mapping[tuple[PackageKind, str], compare.Change], store: Store
) -> str:
    held = packages.packages(layer, store)
    words = [
        _words(change) for package in held if (change := differ.get((package.kind, package.name)))
    ]
    if len(held) == 1 and words and layer.name.kind is not Kind.BUCKET:
        return words[0]
    return f"{layer.title}: {', '.join(words)}" if words else layer.title


def _words(change: compare.Change) -> str:
    if change.old is None:
        return f"{change.name} {change.new} (new)"
    return f"{change.name} {change.old} -> {change.new}"


def exact(amount: int) -> str:
    """Return bytes with all digits that count: 4.30 GB may be more than 4.3GB."""
    return f"{amount / 10**9:.3f} GB" if amount >= 10**9 else size(amount)
