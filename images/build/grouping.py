"""Grouping of distributions into layers, and the order of the layers.

A large wheel is a layer of its own; the many small ones share a few. A layer's content follows
from the target's own lock alone, never from what else the matrix holds: adding a target changes no
image.

The order decides what is shared on a node. An engine knows an unpacked layer by the whole chain
below it, so two images share on disk only as far as their stacks begin alike. Hence, from the
lowest: what torch pins and its next release may leave alone (torch 2.8 and 2.9 have all but two of
NVIDIA's libraries in common, 2.5 GB of wheels), what each release of torch pins anew, torch; then
the rest by size, SGLang's kernels and SGLang last; the small ones above them. What a flavour adds
comes above all of these, in few layers, so that its image begins as the plain one; what changes
with each commit is on top.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass

from images.build import titles
from images.build.titles import LayerName
from images.inputs.lock.distribution import Distribution

OWN_LAYER = 1_000_000
"""Bytes of a wheel from which it is a layer of its own."""

_OWN_LAYERS = 69
"""Layers of one wheel that an engine may have; of more wheels the smallest are with the small ones.

With the buckets and the image's own, kernels included, they are 90; a flavour adds to these, and an
image may have 100."""

_BUCKETS = 16
"""Layers that the small distributions share; a name decides the bucket, so a bump changes one."""

_OWN_ADDED_LAYER = 30_000_000
_ADDED_BUCKETS = 3
"""The same two for what a flavour adds: an image may have so many layers, and the engine uses most
of them."""

# What torch's wheels pin exactly: its CUDA libraries and its Triton.
_TORCH_STACK = re.compile(
    r"torch|triton|nvidia-(cublas|cuda-cupti|cuda-nvrtc|cuda-runtime|cudnn|cufft|cufile|curand|"
    r"cusolver|cusparse|cusparselt|nccl|nvjitlink|nvshmem|nvtx)(-cu\d+)?"
)

_NEW_WITH_TORCH = ("nvidia-nccl", "nvidia-nvshmem", "triton", "torch")
"""Of torch's stack, how the names begin that each release of it pins anew; torch is the last."""

_NEW_WITH_SGLANG = re.compile(r"flashinfer-.+|sgl-kernel|sglang(-kernel)?")


@dataclass(frozen=True, slots=True)
class Group:
    """The distributions of one layer.

    Attributes:
        name: the layer's name.
        distributions: sorted by name.
    """

    name: LayerName
    distributions: tuple[Distribution, ...]

    @property
    def is_torch_stack(self) -> bool:
        """Whether it is a layer of its own, of torch or of what torch pins exactly."""
        (first, *others) = self.distributions
        return not others and self.size >= OWN_LAYER and is_torch_stack(first)

    @property
    def size(self) -> int:
        """Bytes of the locked files."""
        return sum(distribution.artifact.size for distribution in self.distributions)


def groups(distributions: Iterable[Distribution]) -> list[Group]:
    """Group an engine's distributions into layers, lowest first."""
    every = list(distributions)
    large = [item for item in every if item.artifact.size >= OWN_LAYER]
    large.sort(key=lambda item: (not is_torch_stack(item), -item.artifact.size, item.name))
    del large[_OWN_LAYERS:]
    small = (item for item in every if item not in large)
    large.sort(key=lambda item: (_rank(item), -item.artifact.size, item.name))
    return [*map(_alone, large), *_buckets(small, _BUCKETS)]


def added_groups(
    distributions: Iterable[Distribution], flavour: str, apart: Container[str] = ()
) -> list[Group]:
    """Group what a flavour adds to its engine into layers, lowest first.

    Args:
        distributions: what it adds.
        flavour: its name.
        apart: names of distributions that are a layer of their own whatever they weigh, so that
            all targets of the flavour share it: to make it takes long.
    """
    every = list(distributions)
    large = [item for item in every if item.artifact.size >= _OWN_ADDED_LAYER or item.name in apart]
    large.sort(key=lambda item: (-item.artifact.size, item.name))
    small = (item for item in every if item not in large)
    return [*map(_alone, large), *_buckets(small, _ADDED_BUCKETS, flavour)]


def _alone(item: Distribution) -> Group:
    return Group(titles.distribution(item.name, item.version), (item,))


def is_torch_stack(distribution: Distribution) -> bool:
    """Return whether the distribution is torch or what torch pins exactly."""
    return _TORCH_STACK.fullmatch(distribution.name) is not None


def _rank(distribution: Distribution) -> tuple[bool, int]:
    """Rank a large one, whatever its size: what changes less often is lower."""
    name = distribution.name
    if not is_torch_stack(distribution):
        return True, int(_NEW_WITH_SGLANG.fullmatch(name) is not None)
    new = [rank for rank, start in enumerate(_NEW_WITH_TORCH, 1) if name.startswith(start)]
    return False, max(new, default=0)


def _buckets(small: Iterable[Distribution], count: int, flavour: str = "") -> list[Group]:
    buckets: dict[int, list[Distribution]] = {}
    for distribution in sorted(small):
        number = hashlib.sha256(distribution.name.encode()).digest()[0] % count
        buckets.setdefault(number, []).append(distribution)
    return [
        Group(titles.bucket(number + 1, count, flavour), tuple(buckets[number]))
        for number in sorted(buckets)
    ]
