"""The layers of a target: which, and in which order."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from images import format_numbers, image_paths
from images.build import flavour_layers, grouping, titles, wheel_layers
from images.build.conflicts import left_out
from images.build.flavour_layers import Flavour
from images.build.recipe import SMALL, Keys, LayerContext, Recipe, weight_of
from images.content import runtime_wheel
from images.content.cuda import toolkit
from images.content.debian import rootfs
from images.content.python import bytecode
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.lock.target_lock import Lock
from images.oci.descriptor import Compression
from images.oci.layer.entry import Entry, of_bytes, of_symlink

_VENV_CONFIG = "home = {home}\ninclude-system-site-packages = false\n"


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
    """Return the layers of a target, lowest first.

    Args:
        lock: the target's lock.
        base_debs: the base's lock.
        tools: the CUDA compiler's lock.
        compression: how the layers are compressed.
        footing: of the own base below them; None for our Debian base, which is then the lowest.
        flavour: of a target that is one; an own base brings Debian packages itself.
    """
    keys = _keys(base_debs, compression)
    grouped = grouping.groups(lock.of_engine())
    added = grouping.added_groups(lock.of_flavour(), flavour.name, lock.compiled) if flavour else []
    losses = left_out.of_groups([*grouped, *added], lock.conflicts)

    def of_group(group: grouping.Group) -> Recipe:
        lost = losses.get(group.name, [])
        return wheel_layers.WheelLayer(group, lock, base_debs, tools.version, lost).recipe(keys)

    compiler = _compiler(keys, tools)
    if footing is None:
        lowest = [_base(keys, base_debs), compiler]
    else:
        lowest = [_own_venv(keys, footing.python)]
        lowest += [] if footing.compiler else [compiler]
    home = footing is None or not footing.compiler
    return [
        *lowest,
        *(of_group(group) for group in grouped if group.is_torch_stack),
        wheel_layers.LinksLayer(lock, tools, home).recipe(keys),
        *(of_group(group) for group in grouped if not group.is_torch_stack),
        *(flavour_layers.recipes(keys, flavour, base_debs) if flavour and footing is None else ()),
        *map(of_group, added),
        _runtime(keys),
    ]


def _keys(debs: Sequence[Deb], compression: Compression) -> Keys:
    shared = {
        "bytecode": format_numbers.BYTE_CODE,
        "layer": format_numbers.LAYER_WRITER,
        "prefix": image_paths.PREFIX,
        "python": _python_version(debs),
    }
    return Keys(shared, compression)


def _python_version(debs: Sequence[Deb]) -> str:
    """Return the upstream version of the image's Python: what decides about byte code."""
    (version,) = {
        deb.version for deb in debs if deb.package == f"python{image_paths.PYTHON}-minimal"
    }
    return version.partition("-")[0]


def _base(keys: Keys, debs: Sequence[Deb]) -> Recipe:
    def entries(context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        tar = rootfs.build(debs, context.cache, context.workdir)
        yield from bytecode.compiled(rootfs.entries(tar), context.compiler)
        yield from venv()

    links = {entry.path: entry.target for entry in venv()}
    inputs = {"base": rootfs.key(debs), "venv": [links, _VENV_CONFIG.format(home="/usr/bin")]}
    return Recipe(titles.DEBIAN, keys.of(inputs), (), tuple(debs), entries, weight_of(debs))


def _own_venv(keys: Keys, python: str) -> Recipe:
    def entries(context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        yield from venv(python)

    key = keys.of({"venv": python, "format": format_numbers.CUSTOM_BASE_VENV})
    return Recipe(titles.venv(python), key, (), (), entries, SMALL)


def venv(python: str = f"/usr/bin/python{image_paths.PYTHON}") -> Iterator[Entry]:
    """Make the virtual environment that the distributions are installed into (PEP 405)."""
    yield of_symlink(f"{image_paths.BIN}/python", python)
    yield of_symlink(f"{image_paths.BIN}/python3", "python")
    yield of_symlink(f"{image_paths.BIN}/python{image_paths.PYTHON}", "python")
    config = _VENV_CONFIG.format(home=posixpath.dirname(python))
    yield of_bytes(f"{image_paths.PREFIX}/pyvenv.cfg", config.encode())


def _compiler(keys: Keys, tools: Toolkit) -> Recipe:
    def entries(context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        return toolkit.entries(tools, context.cache)

    name, key = titles.compiler(tools.version), keys.of({"toolkit": toolkit.key(tools)})
    weight = weight_of((*tools.wheels, *tools.debs))
    return Recipe(name, key, tools.wheels, tools.debs, entries, weight)


def _runtime(keys: Keys) -> Recipe:
    def entries(context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        from images.formats import wheel_file

        wheel = opened.enter_context(wheel_file.opened(runtime_wheel.build(context.workdir)))
        return bytecode.compiled(wheel_file.entries(wheel), context.compiler)

    inputs = {"runtime": [format_numbers.ROLL_RUNTIME, runtime_wheel.source_digest()]}
    # Every commit to it is pushed and pulled: a tenth smaller for some milliseconds.
    key = keys.of(inputs, "dense")
    return Recipe(titles.RUNTIME, key, (), (), entries, SMALL, "dense")
