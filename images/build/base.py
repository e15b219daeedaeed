"""The base of a target: the project's Debian base, or a custom base image.

Both are one type, made ready here. Whoever uses it asks for values and never for the kind of base.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from images import format_numbers, image_paths
from images.build import titles
from images.build.recipe import SMALL, Keys, LayerContext, Recipe, weight_of
from images.content.debian import rootfs
from images.content.python import bytecode
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb
from images.inputs.matrix.records import Target
from images.oci.image import Layer
from images.oci.layer.entry import Entry, of_bytes, of_symlink

if TYPE_CHECKING:
    from images.content.custom_base.base_image import BaseImage
    from images.content.custom_base.base_image_layers import Survey

PYTHON = f"/usr/bin/python{image_paths.PYTHON}"
"""Path of the Debian base's Python."""

VENV_CONFIG = "home = {home}\ninclude-system-site-packages = false\n"
"""Content of `pyvenv.cfg`."""

_BASE = "org.opencontainers.image.base."
_OF_ONE_IMAGE = ("org.opencontainers.image.", "org.label-schema.", "roll.")
"""How labels begin that describe the very image that they are on."""

_NOT_TAKEN = re.compile(
    r"PYTHON.*|LD_LIBRARY_PATH|LD_PRELOAD|NCCL_.*|PYTORCH_(CUDA_)?ALLOC_CONF|.*_PROXY",
    re.IGNORECASE,
)
"""Of a base's environment: what would lead the image's Python, loader, engine or network astray. A
row that needs one of them sets it itself."""


class Inherited(NamedTuple):
    """What an image takes over from its base, beside layers.

    Attributes:
        env: environment defaults.
        labels: labels that hold for the image as well, and which base it is (OCI's annotations).
        history: of the base's layers.
    """

    env: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    history: tuple[Mapping[str, Any], ...] = ()


NOTHING = Inherited()
"""What an image takes over from the Debian base."""


@dataclass(frozen=True, slots=True)
class Base:
    """A base that a target's layers can be put on.

    Attributes:
        lowest: makes the recipe of the lowest layer that is built: it has the virtual environment.
        has_compiler: whether the base has a CUDA compiler; then it gets none of the project's, and
            no link below /usr/local/cuda, which may itself be a link.
        debs: the Debian packages that are installed from locks.
        layers: layers that are used as they are, below all that are built.
        inherited: what the image takes over beside them.
        digest: of the manifest of a custom base; "" for the Debian base.
        repository: of a custom base in a registry, e.g. `registry.example.com/team/base`.
        artifacts: files of the base in the download cache.
        lacking_debs: Debian packages of the target's flavour that the base has not, and that are
            not added to it.
    """

    lowest: Callable[[Keys], Recipe]
    has_compiler: bool
    debs: tuple[Deb, ...] = ()
    layers: tuple[Layer, ...] = ()
    inherited: Inherited = NOTHING
    digest: str = ""
    repository: str = ""
    artifacts: tuple[Artifact, ...] = ()
    lacking_debs: tuple[str, ...] = ()


def debian(debs: Sequence[Deb], added: Sequence[Deb] = ()) -> Base:
    """Return the Debian base.

    Args:
        debs: its lock.
        added: the Debian packages that the target's flavour adds to it.
    """
    return Base(lambda keys: _root(keys, debs), has_compiler=False, debs=(*debs, *added))


def custom(image: BaseImage, survey: Survey | None, target: Target) -> Base:
    """Return a custom base.

    Args:
        image: what its documents say.
        survey: what is in its layers. Without it, it counts as one without a compiler, and nothing
            can be built on it.
        target: the target that it is for.
    """
    from images.content.custom_base import fit

    facts = survey.facts if survey else None
    return Base(
        lambda keys: _venv_alone(keys, facts.python if facts else ""),
        facts is not None and facts.nvcc,
        layers=survey.layers if survey else (),
        inherited=_inherited(image),
        digest=image.manifest_digest,
        repository=str(image.reference.repository or ""),
        artifacts=image.artifacts,
        lacking_debs=fit.lacking_debs(target, facts) if facts else (),
    )


def _inherited(image: BaseImage) -> Inherited:
    env = {name: value for name, value in image.env.items() if not _NOT_TAKEN.fullmatch(name)}
    labels = {
        name: value for name, value in image.labels.items() if not name.startswith(_OF_ONE_IMAGE)
    }
    labels[f"{_BASE}digest"] = image.manifest_digest
    if image.reference.repository is not None:  # a local directory stays private
        labels[f"{_BASE}name"] = image.reference.name
    return Inherited(env, labels, image.history)


def _root(keys: Keys, debs: Sequence[Deb]) -> Recipe:
    """Return the layer of the Debian base, with the virtual environment."""

    def entries(context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        tar = rootfs.build(debs, context.cache, context.workdir)
        yield from bytecode.compiled(rootfs.entries(tar), context.compiler)
        yield from venv()

    links = {entry.path: entry.target for entry in venv()}
    inputs = {"base": rootfs.key(debs), "venv": [links, VENV_CONFIG.format(home="/usr/bin")]}
    return Recipe(titles.DEBIAN, keys.of(inputs), (), tuple(debs), entries, weight_of(debs))


def _venv_alone(keys: Keys, python: str) -> Recipe:
    """Return the layer of the virtual environment of a custom base's Python."""

    def entries(context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        yield from venv(python)

    key = keys.of({"venv": python, "format": format_numbers.CUSTOM_BASE_VENV})
    return Recipe(titles.venv(python), key, (), (), entries, SMALL)


def venv(python: str = PYTHON) -> Iterator[Entry]:
    """Make the virtual environment that the distributions are installed into (PEP 405)."""
    yield of_symlink(f"{image_paths.BIN}/python", python)
    yield of_symlink(f"{image_paths.BIN}/python3", "python")
    yield of_symlink(f"{image_paths.BIN}/python{image_paths.PYTHON}", "python")
    config = VENV_CONFIG.format(home=posixpath.dirname(python))
    yield of_bytes(f"{image_paths.PREFIX}/pyvenv.cfg", config.encode())
