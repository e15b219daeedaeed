"""Known defects of images that cannot be fixed here: data, each with its reason.

Each is asserted to be still there, so that the list does not outlive what it excuses.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conflict:
    """Two distributions whose metadata contradict each other.

    Attributes:
        targets: the images that have it; a plain one's flavours have it too.
        why: the reason that it is accepted.
    """

    targets: tuple[str, ...]
    why: str


CONFLICTS: dict[str, Conflict] = {
    "decord 0.6.0 is not supported on this platform": Conflict(
        ("torch260-sglang046post1", "torch260-sglang046"),
        "its file name says py3, its WHEEL file cp36: it is Python and a library for ctypes",
    ),
    "sglang 0.5.4.post2 has requirement flashinfer_python==0.4.1, "
    "but you have flashinfer-python 0.5.0.": Conflict(
        ("torch280-sglang054",),
        "the row's override: what 0.4.1 itself needs is gone from the index (matrix.yaml)",
    ),
    "sglang 0.5.18 has requirement cuda-tile==1.6.0rc5, but you have cuda-tile 1.6.0.": Conflict(
        ("torch2130-sglang0518",),
        "the row's override: the index has no wheel of 1.6.0rc5 (matrix.yaml)",
    ),
    "sglang 0.5.20 has requirement cuda-tile==1.6.0rc5, but you have cuda-tile 1.6.0.": Conflict(
        ("torch2130-sglang0520",),
        "the row's override: the index has no wheel of 1.6.0rc5 (matrix.yaml)",
    ),
    "reasoning-gym 0.1.23 has requirement tabulate==0.9.0, but you have tabulate 0.10.0.": Conflict(
        ("torch2110-sglang0512-roll",),
        "FlashInfer asks for 0.10.0, and both print tables with it (matrix.yaml)",
    ),
}
"""By the line that `pip check` prints."""

ROLL_CONFLICTS = (
    "trl 0.9.6 has requirement numpy<2.0.0,>=1.18.2, but you have numpy {numpy}.",
    "transferqueue 0.1.6 has requirement numpy<2.0.0, but you have numpy {numpy}.",
)
"""Those of every `-roll` image, with its version of numpy, which is the engine's: the limits are
older than numpy 2 (matrix.yaml)."""


@dataclass(frozen=True)
class Duplicate:
    """A CUDA library that an image holds more than once.

    Attributes:
        distribution: the one that contains the second copy.
        path: a pattern of the second copy's path below site-packages.
        why: the reason that it is accepted.
    """

    distribution: str
    path: str
    why: str


@dataclass(frozen=True)
class Mention:
    """A file that has the name of a library that is left out, and does not need it.

    Attributes:
        distribution: the one that contains the file.
        path: a pattern of its path below site-packages.
        why: the reason that it is accepted.
    """

    distribution: str
    path: str
    why: str


MENTIONS: tuple[Mention, ...] = (
    Mention(
        "cuda-bindings",
        r"cuda/bindings/_path_finder/supported_libs\.py",
        "the same table as cuda-pathfinder's, before that was a distribution of its own",
    ),
    Mention(
        "cuda-pathfinder",
        r"cuda/pathfinder/_dynamic_libs/(supported_nvidia_libs|descriptor_catalog)\.py",
        "a table of all libraries of CUDA: it loads the one that is asked for by name",
    ),
)

DUPLICATES: tuple[Duplicate, ...] = (
    Duplicate(
        "triton",
        r"triton/backends/nvidia/lib/cupti(-blackwell)?/lib\w+\.so[.\d]*",
        "Triton's profiler, proton, loads the CUPTI of its own wheel by path; nothing else does",
    ),
    Duplicate(
        "nvidia-cutlass-dsl-libs-cu12",
        r"nvidia_cutlass_dsl/cu1[23]/lib/(stubs/[\w.-]+/)?libcute_dsl_runtime\.so",
        "CuTe DSL has one in a directory for each CUDA, and stubs to link with for other systems",
    ),
    Duplicate(
        "nccl-extensions",
        r"nccl/(ep|m2n)/lib/cu12/lib\w+\.so",
        "extensions of NCCL, in a directory for each CUDA",
    ),
    Duplicate(
        "torchvision",
        r"torchvision\.libs/libcudart\.[0-9a-f]+\.so\.1[23]",
        "auditwheel renamed it and made it private to torchvision's image codecs, so it is never "
        "taken for the runtime that torch loads",
    ),
)
