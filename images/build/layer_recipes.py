"""The layers of a target: which, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from images import format_numbers, image_paths
from images.build import grouping, titles
from images.build.base import Base
from images.build.conflicts import left_out
from images.build.layers import flavour_layers, kernel_layer, wheel_layers
from images.build.layers.flavour_layers import Flavour
from images.build.recipe import SMALL, Keys, LayerContext, Recipe, weight_of
from images.content import changed_wheels, runtime_wheel
from images.content.cuda import toolkit
from images.content.kernels.kernel_inputs import Kernels
from images.content.python import bytecode
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.lock.target_lock import Lock
from images.oci.descriptor import Compression
from images.oci.layer.entry import Entry


def recipes(
    lock: Lock,
    base_debs: Sequence[Deb],
    tools: Toolkit,
    compression: Compression,
    base: Base,
    flavour: Flavour | None = None,
    kernels: Kernels | None = None,
) -> list[Recipe]:
    """Return the layers of a target, lowest first.

    Args:
        lock: the target's lock.
        base_debs: the Debian base's lock, of which the image's interpreter is made in any case.
        tools: the CUDA compiler's lock.
        compression: how the layers are compressed.
        base: what they are put on.
        flavour: of a target that is one.
        kernels: the kernels that are compiled. On a custom base there are none: a library that is
            compiled in the Debian base may need a newer glibc or libstdc++ than another base has.

    Raises:
        MatrixError: a rule of the matrix is about a distribution that the target does not have.
    """
    changed_wheels.check(lock)
    keys = _keys(base_debs, compression)
    grouped = grouping.groups(lock.of_engine())
    added = grouping.added_groups(lock.of_flavour(), flavour.name, lock.compiled) if flavour else []
    losses = left_out.of_groups([*grouped, *added], lock.conflicts)

    def layer_of(group: grouping.Group) -> wheel_layers.WheelLayer:
        lost = losses.get(group.name, [])
        return wheel_layers.WheelLayer(group, lock, base_debs, tools.version, lost)

    def of_group(group: grouping.Group) -> Recipe:
        return layer_of(group).recipe(keys)

    def compiled() -> list[Recipe]:
        if kernels is None or base.digest:
            return []
        flashinfer = layer_of(kernel_layer.group_of(kernels, grouped))
        return [kernel_layer.KernelLayer(kernels, flashinfer, base_debs, tools).recipe(keys)]

    return [
        base.lowest(keys),
        *(() if base.has_compiler else [_compiler(keys, tools)]),
        *(of_group(group) for group in grouped if group.is_torch_stack),
        wheel_layers.LinksLayer(lock, tools, home=not base.has_compiler).recipe(keys),
        *(of_group(group) for group in grouped if not group.is_torch_stack),
        *compiled(),
        *(flavour_layers.recipes(keys, flavour, base_debs) if flavour else ()),
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
