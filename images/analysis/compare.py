"""What moving from one image to another costs: packages, bytes to pull, layers to unpack again.

A registry sends a blob that a node has never a second time, wherever it is in the stack. On the
node itself an unpacked layer is known by the whole chain below it (OCI image spec, config.md,
ChainID): from the first layer that differs, all are unpacked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from images.analysis import packages
from images.analysis.summary import Outline, Package, PackageKind, Part
from images.build.titles import Kind
from images.oci.store.store import Store

KINDS: tuple[PackageKind, ...] = ("distribution", "debian", "toolkit")


@dataclass(frozen=True, slots=True)
class Change:
    """A package that differs.

    Attributes:
        kind, name: of the package.
        old, new: versions; None where it is not there. The same one twice: other bytes.
        pull: bytes of its own layer; None where it shares one, and where it is gone.
    """

    kind: PackageKind
    name: str
    old: str | None
    new: str | None
    pull: int | None = None


@dataclass(frozen=True, slots=True)
class Amount:
    """Some layers.

    Attributes:
        layers: how many.
        bytes: compressed; of locked files for layers that are not made.
        unpacked: bytes of their tars; None where one is not known.
        not_made: how many of them are not made.
    """

    layers: int
    bytes: int
    unpacked: int | None
    not_made: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two images beside each other.

    Attributes:
        old, new: the images.
        changes: packages that differ, by kind and name.
        pull: the layers that only the new one has, lowest first.
    """

    old: Outline
    new: Outline
    changes: tuple[Change, ...]
    pull: tuple[Part, ...]

    @property
    def pulled(self) -> Amount:
        """Layers that only the new one has."""
        return amount(self.pull)

    @property
    def shared(self) -> Amount:
        """Layers that both have: they are not pulled."""
        had = set(self.old.identities)
        return amount(part for part in self.new.parts if part.identity in had)

    @property
    def common(self) -> Amount:
        """Layers with which both begin: they are not unpacked again either."""
        return amount(self.new.parts[: self._common])

    @property
    def unpack(self) -> Amount:
        """Layers above those: a node unpacks them, pulled or not."""
        return amount(self.new.parts[self._common :])

    @property
    def _common(self) -> int:
        pairs = zip(self.old.identities, self.new.identities, strict=False)
        return next(
            (number for number, (old, new) in enumerate(pairs) if old != new),
            min(len(self.old.parts), len(self.new.parts)),
        )


def compare(old: Outline, new: Outline, store: Store | None) -> Comparison:
    """Put two images beside each other; only layers that they do not share are looked into.

    Raises:
        IntegrityError: a layer that must be looked into is damaged.
    """
    had, has = set(old.identities), set(new.identities)
    gone = [part for part in old.parts if part.identity not in has]
    pull = [part for part in new.parts if part.identity not in had]
    return Comparison(old, new, tuple(changes(gone, pull, store)), tuple(pull))


def changes(gone: Sequence[Part], came: Sequence[Part], store: Store | None) -> list[Change]:
    """The packages that differ between the layers of an old image and those of a new one."""
    before, after = _by_name(gone, store), _by_name(came, store)
    found = []
    for key in sorted(before.keys() | after.keys()):
        (old, _), (new, pull) = (side.get(key, (None, None)) for side in (before, after))
        # In a layer of several, what has the same version is there for its neighbours' sake.
        if old != new or pull is not None:
            found.append(Change(*key, old, new, pull))
    return found


def _by_name(
    parts: Iterable[Part], store: Store | None
) -> dict[tuple[PackageKind, str], tuple[str, int | None]]:
    """Version of each package, and the size of its layer where it has one of its own."""
    found: dict[tuple[PackageKind, str], tuple[str, int | None]] = {}
    for part in parts:
        held: tuple[Package, ...] = packages.packages(part, store)
        for package in held:
            alone = len(held) == 1 and part.name.kind is not Kind.BUCKET
            own = part.size if alone else None
            found[package.kind, package.name] = (package.version, own)
    return found


def amount(parts: Iterable[Part]) -> Amount:
    """The layers together."""
    every = list(parts)
    blobs = [part.blob for part in every]
    unpacked = [blob.unpacked if blob else 0 for blob in blobs]
    return Amount(
        len(every),
        sum(part.size for part in every),
        sum(unpacked) if all(unpacked) else None,
        blobs.count(None),
    )
