"""What the layers of a target are: their order, their keys, and how each one's entries are made.

A key is the digest of all that decides about a layer's bytes. It is known from the locks and
recipes alone: whether a layer must be made is decided without opening one wheel.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from images import image_paths
from images.build import flavour_layers, grouping, wheel_layers
from images.build.conflicts import left_out
from images.build.flavour_layers import Flavour
from images.content import runtime_wheel
from images.content.cuda import toolkit
from images.content.debian import rootfs
from images.content.python import bytecode
from images.inputs.fetch.needed_files import NeededFiles
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock
from images.oci.layer import writer
from images.oci.layer.entry import Entry, of_bytes, of_symlink
from images.oci.layer.writer import Compression, Effort
from images.util import sha256

if TYPE_CHECKING:
    from images.content.python.bytecode import Compiler
    from images.content.python.interpreter import Interpreter

Entries = Callable[["Workshop", ExitStack], Iterator[Entry]]


class _Maker(Protocol):
    """Makes a recipe of a layer's own inputs and those that all layers share."""

    def __call__(
        self,
        title: str,
        inputs: Any,
        entries: Entries,
        distributions: Sequence[Distribution] = (),
        debs: Sequence[Deb] = (),
        weight: int = 0,
        effort: Effort = "fast",
    ) -> Recipe: ...


BASE = "Debian bookworm"
LINKS = "CUDA links"
RUNTIME = "roll_runtime"
"""Titles of the layers that are not of wheels; the compiler's has its version in it."""

_COMPILER = "CUDA compiler "
_VENV_CONFIG = "home = {home}\ninclude-system-site-packages = false\n"
_RUNTIME_WEIGHT = 100_000


@dataclass(frozen=True, slots=True)
class Workshop:
    """What making a layer may use.

    Attributes:
        cache: the download cache; every file that a recipe needs is in it.
        workdir: an empty directory of this layer's own.
        python: the image's interpreter.
        compiler: byte code by that interpreter.
    """

    cache: Path
    workdir: Path
    python: Interpreter
    compiler: Compiler


@dataclass(frozen=True, slots=True)
class Recipe:
    """A layer that can be made.

    Attributes:
        title: what people see.
        key: the digest of its inputs.
        distributions: locked files that it needs from the package index.
        debs: locked files that it needs from the Debian mirror.
        entries: makes its entries; what it opens is closed with the `ExitStack`.
        weight: bytes of its inputs, for order and progress.
        effort: how hard it is compressed.
    """

    title: str
    key: str
    distributions: tuple[Distribution, ...]
    debs: tuple[Deb, ...]
    entries: Entries
    weight: int
    effort: Effort = "fast"

    @property
    def needs(self) -> tuple[Artifact, ...]:
        """All files that must be in the download cache."""
        return tuple(item.artifact for item in self.distributions) + tuple(
            deb.artifact for deb in self.debs
        )

    @property
    def bootstraps(self) -> bool:
        """Whether a root file system is put together for it: others unpack packages at most."""
        return any(deb.package == "dpkg" for deb in self.debs)


@dataclass(frozen=True, slots=True)
class Footing:
    """What an own base has of what our layers stand on.

    Attributes:
        python: absolute path of its Python.
        compiler: whether it has a CUDA compiler; then it gets none of ours, and no link below
            /usr/local/cuda, which may be a link of its own.
    """

    python: str
    compiler: bool


def recipes(
    lock: Lock,
    base_debs: Sequence[Deb],
    tools: Toolkit,
    compression: Compression,
    footing: Footing | None = None,
    flavour: Flavour | None = None,
) -> list[Recipe]:
    """The layers of a target, lowest first.

    Args:
        lock: the target's lock.
        base_debs: the base's lock.
        tools: the CUDA compiler's lock.
        compression: how the layers are compressed.
        footing: of the own base below them; None for our Debian base, which is then the lowest.
        flavour: of a target that is one; an own base brings Debian packages itself.
    """
    common = {
        "bytecode": bytecode.FORMAT,
        "layer": writer.FORMAT,
        "prefix": image_paths.PREFIX,
        "python": _python_version(base_debs),
    }

    def recipe(
        title: str,
        inputs: Any,
        entries: Entries,
        distributions: Sequence[Distribution] = (),
        debs: Sequence[Deb] = (),
        weight: int = 0,
        effort: Effort = "fast",
    ) -> Recipe:
        compressor = writer.compressor_id(compression, effort)
        key = sha256.of_json({**common, "compressor": compressor, "inputs": inputs})
        made = Recipe(title, key, tuple(distributions), tuple(debs), entries, weight, effort)
        return made if weight else replace(made, weight=sum(file.size for file in made.needs))

    grouped = grouping.groups(lock.of_engine())
    added = grouping.added_groups(lock.of_flavour(), flavour.name, lock.compiled) if flavour else []
    losses = left_out.of_groups([*grouped, *added], lock.conflicts)

    def of_group(group: grouping.Group) -> Recipe:
        made = wheel_layers.WheelLayer(
            group, lock, base_debs, tools.version, losses.get(group.title, [])
        )
        return recipe(
            group.title,
            made.inputs(),
            made.entries,
            distributions=made.needs,
            debs=base_debs if made.is_compiled else (),
            weight=sum(item.artifact.size for item in made.needs),
        )

    compiler = recipe(*_tools(tools), distributions=tools.wheels, debs=tools.debs)
    if footing is None:
        lowest = [recipe(*_base(base_debs), debs=base_debs), compiler]
    else:
        lowest = [recipe(*_own_venv(footing.python), weight=_RUNTIME_WEIGHT)]
        lowest += [] if footing.compiler else [compiler]
    return [
        *lowest,
        *(of_group(group) for group in grouped if group.is_torch_stack),
        _links(recipe, lock, tools, home=footing is None or not footing.compiler),
        *(of_group(group) for group in grouped if not group.is_torch_stack),
        *(_debian(recipe, flavour, base_debs, footing) if flavour else ()),
        *map(of_group, added),
        # Every commit to it is pushed and pulled: a tenth smaller for some milliseconds.
        recipe(*_runtime(), weight=_RUNTIME_WEIGHT, effort="dense"),
    ]


def _debian(
    recipe: _Maker, flavour: Flavour, base_debs: Sequence[Deb], footing: Footing | None
) -> Iterator[Recipe]:
    """The layers of what a flavour adds beside distributions, lowest first."""
    if flavour.debs and footing is None:
        needs = (*base_debs, *flavour.debs)
        weight = sum(deb.artifact.size for deb in flavour.debs)
        yield recipe(*flavour_layers.debian(flavour, base_debs), debs=needs, weight=weight)
        yield recipe(*flavour_layers.login(flavour.env), weight=_RUNTIME_WEIGHT)


def compiler_title(version: str) -> str:
    """The title of the layer of a compiler of that version."""
    return f"{_COMPILER}{version}"


def compiler_version(title: str) -> str | None:
    """The version of the compiler whose layer has that title; None for another layer's."""
    return title.removeprefix(_COMPILER) if title.startswith(_COMPILER) else None


def _python_version(debs: Sequence[Deb]) -> str:
    """The upstream version of the image's Python: what decides about byte code."""
    (version,) = {
        deb.version for deb in debs if deb.package == f"python{image_paths.PYTHON}-minimal"
    }
    return version.partition("-")[0]


def _base(debs: Sequence[Deb]) -> tuple[str, Any, Entries]:
    def entries(shop: Workshop, opened: ExitStack) -> Iterator[Entry]:
        tar = rootfs.build(debs, shop.cache, shop.workdir)
        yield from bytecode.compiled(rootfs.entries(tar), shop.compiler)
        yield from venv()

    links = {entry.path: entry.target for entry in venv()}
    inputs = {"base": rootfs.key(debs), "venv": [links, _VENV_CONFIG.format(home="/usr/bin")]}
    return BASE, inputs, entries


def _own_venv(python: str) -> tuple[str, Any, Entries]:
    def entries(shop: Workshop, opened: ExitStack) -> Iterator[Entry]:
        yield from venv(python)

    return f"virtual environment of {python}", {"venv": python, "format": "1"}, entries


def venv(python: str = f"/usr/bin/python{image_paths.PYTHON}") -> Iterator[Entry]:
    """The virtual environment that the distributions go into (PEP 405)."""
    yield of_symlink(f"{image_paths.BIN}/python", python)
    yield of_symlink(f"{image_paths.BIN}/python3", "python")
    yield of_symlink(f"{image_paths.BIN}/python{image_paths.PYTHON}", "python")
    config = _VENV_CONFIG.format(home=posixpath.dirname(python))
    yield of_bytes(f"{image_paths.PREFIX}/pyvenv.cfg", config.encode())


def _tools(tools: Toolkit) -> tuple[str, Any, Entries]:
    def entries(shop: Workshop, opened: ExitStack) -> Iterator[Entry]:
        return toolkit.entries(tools, shop.cache)

    return compiler_title(tools.version), {"toolkit": toolkit.key(tools)}, entries


def _links(recipe: _Maker, lock: Lock, tools: Toolkit, *, home: bool) -> Recipe:
    made = wheel_layers.LinksLayer(lock, tools, home)
    return recipe(
        LINKS, made.inputs(), made.entries, distributions=made.nvidia, weight=_RUNTIME_WEIGHT
    )


def _runtime() -> tuple[str, Any, Entries]:
    def entries(shop: Workshop, opened: ExitStack) -> Iterator[Entry]:
        from images.formats import wheel_file

        wheel = opened.enter_context(wheel_file.opened(runtime_wheel.build(shop.workdir)))
        return bytecode.compiled(wheel_file.entries(wheel), shop.compiler)

    return RUNTIME, {"runtime": [runtime_wheel.FORMAT, runtime_wheel.source_digest()]}, entries


def files_of(
    recipes: Iterable[Recipe], python: Iterable[Deb], base: Iterable[Artifact] = ()
) -> NeededFiles:
    """The locked files that making these layers needs.

    Args:
        recipes: the layers.
        python: the packages that the image's interpreter is still to be made of.
        base: the files of an own base.
    """
    every = list(recipes)
    distributions = [item for recipe in every for item in recipe.distributions]
    debs = [item for recipe in every for item in recipe.debs]
    return NeededFiles(
        {item.artifact: item for item in distributions},
        {item.artifact: item for item in (*debs, *python)},
        tuple(base),
    )
