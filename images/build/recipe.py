"""A layer that can be made: its key, the locked files that it needs, and its entries.

A key is the digest of all that decides about a layer's bytes. It is known from the locks and
recipes alone: whether a layer must be made is decided without opening one wheel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from images.build.titles import Kind, LayerName
from images.inputs.fetch.needed_files import NeededFiles
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.oci.descriptor import Compression
from images.oci.layer import writer
from images.oci.layer.entry import Entry
from images.oci.layer.writer import Effort
from images.util import sha256

if TYPE_CHECKING:
    from images.content.python.bytecode import Compiler
    from images.content.python.interpreter import Interpreter

SMALL = 100_000
"""Weight of a layer that is small whatever it is made from."""


@dataclass(frozen=True, slots=True)
class LayerContext:
    """What is at hand while a layer is made.

    Attributes:
        cache: the download cache; every file that a recipe needs is in it.
        workdir: an empty directory of this layer's own.
        python: the image's interpreter.
        compiler: byte code by that interpreter.
        report: takes a line for the user.
    """

    cache: Path
    workdir: Path
    python: Interpreter
    compiler: Compiler
    report: Callable[[str], None] = lambda _: None


Entries = Callable[[LayerContext, ExitStack], Iterator[Entry]]
"""Makes a layer's entries; what it opens is closed with the `ExitStack`."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A layer that can be made.

    Attributes:
        name: what it is.
        key: the digest of its inputs.
        distributions: locked files that it needs from the package index.
        debs: locked files that it needs from the Debian mirror.
        entries: makes its entries.
        weight: bytes of its inputs, or its size where it is small whatever they are.
        effort: how hard it is compressed.
        installed: the distributions that it installs; what they are built with is not among them.
        compiling: how long something is compiled for it, as bytes of wheels that take as long.
    """

    name: LayerName
    key: str
    distributions: tuple[Distribution, ...]
    debs: tuple[Deb, ...]
    entries: Entries
    weight: int
    effort: Effort = "fast"
    installed: tuple[Distribution, ...] = ()
    compiling: int = 0

    @property
    def title(self) -> str:
        """The title of the layer in a manifest."""
        return self.name.title

    @property
    def kind(self) -> Kind:
        """The kind of layer."""
        return self.name.kind

    @property
    def work(self) -> int:
        """How much work it is, in bytes of wheels, for order and progress."""
        return self.weight + self.compiling

    @property
    def needs(self) -> tuple[Artifact, ...]:
        """All files that must be in the download cache."""
        every: tuple[Distribution | Deb, ...] = (*self.distributions, *self.debs)
        return tuple(item.artifact for item in every)

    @property
    def bootstraps(self) -> bool:
        """Whether a root file system is put together for it: others unpack packages at most."""
        return any(deb.package == "dpkg" for deb in self.debs)


class Keys(NamedTuple):
    """Makes the keys of a target's layers.

    Attributes:
        shared: inputs of all its layers.
        compression: how they are compressed.
    """

    shared: Mapping[str, str]
    compression: Compression

    def of(self, inputs: Any, effort: Effort = "fast") -> str:
        """Return the key of a layer.

        Args:
            inputs: what decides about its bytes, but for what all layers share.
            effort: how hard it is compressed.
        """
        compressor = writer.compressor_id(self.compression, effort)
        return sha256.of_json({**self.shared, "compressor": compressor, "inputs": inputs})


def weight_of(items: Iterable[Distribution | Deb]) -> int:
    """Return the bytes of locked files."""
    return sum(item.artifact.size for item in items)


def files_of(
    recipes: Iterable[Recipe], python: Iterable[Deb], base: Iterable[Artifact] = ()
) -> NeededFiles:
    """Return the locked files that making layers needs.

    Args:
        recipes: the layers.
        python: the packages that the image's interpreter is still to be made of.
        base: the files of a custom base.
    """
    every = list(recipes)
    distributions = [item for recipe in every for item in recipe.distributions]
    debs = [item for recipe in every for item in recipe.debs]
    return NeededFiles(
        {item.artifact: item for item in distributions},
        {item.artifact: item for item in (*debs, *python)},
        tuple(base),
    )
