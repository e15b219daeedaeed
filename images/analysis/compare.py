"""The cost of moving from one image to another: packages, bytes to pull, layers to unpack again.

A registry sends a blob that a node has never a second time, wherever it is in the stack. On the
node itself an unpacked layer is known by the whole chain below it (OCI image spec, config.md,
ChainID): from the first layer that differs, all are unpacked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from images.analysis import packages
from images.analysis.summary import ImageSummary, LayerSummary, Package, PackageKind
from images.build.titles import Kind
from images.oci.store.store import Store

KINDS: tuple[PackageKind, ...] = ("distribution", "debian", "toolkit")


@dataclass(frozen=True, slots=True)
class Change:
    """A package that differs.

    Attributes:
        kind, name: of the package.
        old, new: versions; None where it is absent. The same one twice: other bytes.
        pull: bytes of its own layer; None where it shares one, and where it is removed.
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
    """Two images compared.

    Attributes:
        old, new: the images.
        changes: packages that differ, by kind and name.
        pull: the layers that only the new one has, lowest first.
    """

    old: ImageSummary
    new: ImageSummary
    changes: tuple[Change, ...]
    pull: tuple[LayerSummary, ...]

    @property
    def pulled(self) -> Amount:
        """Layers that only the new one has."""
        return amount(self.pull)

    @property
    def shared(self) -> Amount:
        """Layers that both have: they are not pulled."""
        had = set(self.old.identities)
        return amount(layer for layer in self.new.layers if layer.identity in had)

    @property
    def common(self) -> Amount:
        """Layers with which both begin: they are not unpacked again either."""
        return amount(self.new.layers[: self._common])

    @property
    def unpack(self) -> Amount:
        """Layers above those: a node unpacks them, pulled or not."""
        return amount(self.new.layers[self._common :])

    @property
    def _common(self) -> int:
        pairs = zip(self.old.identities, self.new.identities, strict=False)
        return next(
            (number for number, (old, new) in enumerate(pairs) if old != new),
            min(len(self.old.layers), len(self.new.layers)),
        )


def compare(old: ImageSummary, new: ImageSummary, store: Store | None) -> Comparison:
    """Compare two images; only layers that they do not share are read.

    Raises:
        IntegrityError: a layer that must be read is damaged.
    """
    had, has = set(old.identities), set(new.identities)
    gone = [layer for layer in old.layers if layer.identity not in has]
    pull = [layer for layer in new.layers if layer.identity not in had]
    return Comparison(old, new, tuple(changes(gone, pull, store)), tuple(pull))


def changes(
    gone: Sequence[LayerSummary], came: Sequence[LayerSummary], store: Store | None
) -> list[Change]:
    """Return the packages that differ between layers of an old image and those of a new one."""
    before, after = _by_name(gone, store), _by_name(came, store)
    found = []
    for key in sorted(before.keys() | after.keys()):
        (old, _), (new, pull) = (side.get(key, (None, None)) for side in (before, after))
        # In a layer of several, one of the same version is there because its neighbours changed.
        if old != new or pull is not None:
            found.append(Change(*key, old, new, pull))
    return found


def _by_name(
    layers: Iterable[LayerSummary], store: Store | None
) -> dict[tuple[PackageKind, str], tuple[str, int | None]]:
    """Return each package's version, and the size of its layer where it has one of its own."""
    found: dict[tuple[PackageKind, str], tuple[str, int | None]] = {}
    for layer in layers:
        held: tuple[Package, ...] = packages.packages(layer, store)
        for package in held:
            alone = len(held) == 1 and layer.name.kind is not Kind.BUCKET
            own = layer.size if alone else None
            found[package.kind, package.name] = (package.version, own)
    return found


def amount(layers: Iterable[LayerSummary]) -> Amount:
    """Add layers up."""
    every = list(layers)
    blobs = [layer.blob for layer in every]
    unpacked = [blob.unpacked if blob else 0 for blob in blobs]
    return Amount(
        len(every),
        sum(layer.size for layer in every),
        sum(unpacked) if all(unpacked) else None,
        blobs.count(None),
    )
