"""The materials of an image: the locked files and the base that it is made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from images.content.kernels.kernel_inputs import Kernels
from images.inputs.lock import base_lock, cuda_lock
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock


@dataclass(frozen=True, slots=True)
class Materials:
    """The locked files of an image.

    Attributes:
        lock: the target's.
        base: the Debian packages of the root file system.
        tools: the CUDA compiler's sources; of these only parts are in the image. None where the
            base has a compiler of its own.
        custom_base: the digest of the custom base's manifest; "" if the base is Debian's.
        base_repository: where that base is in a registry, e.g. `registry.example.com/team/base`;
            "" if it is in a layout.
        kernels: those that are compiled, if there are any.
    """

    lock: Lock
    base: Sequence[Deb]
    tools: Toolkit | None
    custom_base: str = ""
    base_repository: str = ""
    kernels: Kernels | None = None

    def distributions(self) -> Iterator[Distribution]:
        """Return the distributions in the image, each file once, those of the compiler last."""
        wheels = self.tools.wheels if self.tools else ()
        return iter(dict.fromkeys([*self.lock.distributions, *wheels]))

    def debs(self) -> Iterator[tuple[Deb, str]]:
        """Yield the Debian packages, each with its release, those of the compiler last."""
        yield from ((item, base_lock.DISTRO) for item in self.base)
        debs = self.tools.debs if self.tools else ()
        yield from ((item, cuda_lock.DISTRO) for item in debs)
