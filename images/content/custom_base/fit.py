"""Checks whether a target can be built on a custom base; every reason against it is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from images import image_paths
from images.content.custom_base.facts import Facts
from images.content.custom_base.refusal import refusal
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.records import Target
from images.oci.image import MAX_LAYERS

if TYPE_CHECKING:
    from images.content.custom_base.base_image import BaseImage
    from images.inputs.lock.cuda_lock import Toolkit

_X86_64 = 62  # EM_X86_64 of the ELF specification
_MAGIC = "a70d0d0a"
"""Of Python 3.11's byte code (3495), from its release candidates on."""

_MANYLINUX = re.compile(r"manylinux_2_(\d+)_x86_64")
_OLD_MANYLINUX = {"manylinux1_": 5, "manylinux2010_": 12, "manylinux2014_": 17}  # PEP 600


def check_platform(image: BaseImage) -> None:
    """Refuse a base for another platform before its layers are fetched.

    Raises:
        MatrixError: it is for another platform.
    """
    if wrong := _wrong_platform(image.platform):
        raise refusal(image.reference, [wrong])


def check(
    target: Target, image: BaseImage, facts: Facts, lock: Lock, tools: Toolkit, own: int
) -> None:
    """Refuse a base that a target cannot be built on.

    Args:
        target: the target.
        image: the base.
        facts: what is in its layers.
        lock: the target's lock.
        tools: the project's CUDA compiler, for a base without one.
        own: how many layers the target adds to the base.

    Raises:
        MatrixError: it cannot be; every reason is named.
    """
    reasons = _unfit(target, image, facts, lock, own) + _compiler_unfit(tools, facts)
    if reasons:
        raise refusal(image.reference, reasons, target.id, facts.system)


def _unfit(target: Target, image: BaseImage, facts: Facts, lock: Lock, own: int) -> list[str]:
    return [
        *_platform(image, facts),
        *_python(facts),
        *_libc(facts, lock.distributions),
        *_cuda(target, facts),
        *(f"it lacks {name}, which compiling kernels needs" for name in facts.lacks),
        *(f"{path} is taken: it must be free, or a plain directory" for path in facts.occupied),
        *_layers(len(image.blobs), own),
    ]


def _compiler_unfit(tools: Toolkit, facts: Facts) -> list[str]:
    """Return why the project's CUDA compiler does not run on a base without one of its own."""
    needed = max([tools.sources.glibc, *(_needs(wheel) for wheel in tools.wheels)])
    minor = _minor(facts.glibc)
    if facts.nvcc or minor is None or minor >= needed:
        return []
    return [
        f"its glibc is {facts.glibc}, and it has no CUDA compiler: the one added needs "
        f"glibc 2.{needed}"
    ]


def lacking_debs(target: Target, facts: Facts) -> tuple[str, ...]:
    """Return the Debian packages of a target's flavour that a base lacks: none are added to it.

    Not a reason against it: outside Debian they have other names.
    """
    return tuple(name for name in target.debian if name not in facts.debian)


def _wrong_platform(platform: str) -> str | None:
    return None if platform == "linux/amd64" else f"it is for {platform}, not for linux/amd64"


def _platform(image: BaseImage, facts: Facts) -> Iterator[str]:
    if wrong := _wrong_platform(image.platform):
        yield wrong
    elif facts.python and facts.machine != _X86_64:
        yield f"{facts.python} is not an x86-64 program (ELF machine {facts.machine})"


def _python(facts: Facts) -> Iterator[str]:
    if not facts.python:
        others = f" (there is {', '.join(facts.others)})" if facts.others else ""
        yield f"it has no Python {image_paths.PYTHON} with its standard library on its PATH{others}"
    elif facts.magic not in ("", _MAGIC):
        yield (
            f"its byte code has the magic number {facts.magic}, "
            f"and that of Python {image_paths.PYTHON} has {_MAGIC}"
        )


def _libc(facts: Facts, distributions: Iterable[Distribution]) -> Iterator[str]:
    minor = _minor(facts.glibc)
    if minor is None:
        yield "it has no glibc 2, which the wheels are linked with"
        return
    needs = {item: need for item in distributions if (need := _needs(item)) > minor}
    for item, need in needs.items():
        yield f"its glibc is {facts.glibc}, and {item.pin} needs 2.{need}"


def _minor(glibc: str) -> int | None:
    return int(glibc.partition(".")[2]) if glibc.startswith("2.") else None


def _needs(item: Distribution) -> int:
    """Return the lowest minor version of glibc 2 that a wheel runs on (PEP 600); 0 for any."""
    name = item.artifact.filename
    found = [int(minor) for minor in _MANYLINUX.findall(name)]
    found += [minor for old, minor in _OLD_MANYLINUX.items() if old in name]
    return min(found, default=0)


def _cuda(target: Target, facts: Facts) -> Iterator[str]:
    major = target.cuda.partition(".")[0]
    if facts.nvcc and not facts.compiler:
        yield f"its compiler in /{image_paths.CUDA_HOME} has no version.json with its version"
    elif facts.nvcc and facts.compiler.partition(".")[0] != major:
        yield f"its CUDA compiler is {facts.compiler}, and the target is for CUDA {target.cuda}"
    elif facts.cuda_home and not facts.nvcc:
        yield (
            f"it has /{image_paths.CUDA_HOME} without nvcc: take the variant with the compiler "
            "(`devel`), or one without CUDA, which gets one"
        )


def _layers(there: int, own: int) -> Iterator[str]:
    if there + own > MAX_LAYERS:
        yield (
            f"it has {there} layers and the target {own}: more than the {MAX_LAYERS} "
            "that an image may have; squash it (podman build --squash-all)"
        )
