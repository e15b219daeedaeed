"""The architectures that kernels are compiled for."""

from __future__ import annotations

import pytest

from images.content.kernels import architectures
from images.inputs.compilers import BY_VERSION


@pytest.mark.parametrize(
    ("gpus", "targets"),
    [
        (["8.0", "8.6", "8.9", "9.0"], ["8.0", "9.0a"]),
        (["9.0"], ["9.0a"]),
        (["8.9", "8.6"], ["8.6"]),
        (["8.9"], ["8.9"]),
        (["12.1", "12.0", "10.3", "10.0", "9.0"], ["9.0a", "10.0f", "12.0f"]),
        (["10.3"], ["10.3f"]),
        ([], []),
    ],
)
def test_the_lowest_of_each_major_version_serves_the_others(
    gpus: list[str], targets: list[str]
) -> None:
    assert architectures.compiled_for(gpus) == tuple(targets)


@pytest.mark.parametrize("version", BY_VERSION)
def test_every_gpu_of_a_compiler_is_served(version: str) -> None:
    """NVIDIA's rule: X.y runs on X.z with z >= y; 9.0a on 9.0 alone, and X.yf as X.y."""
    served = BY_VERSION[version].gpus
    targets = architectures.compiled_for(served)
    for gpu in served:
        major, minor = gpu.split(".")
        (one,) = [target for target in targets if target.split(".")[0] == major]
        lowest = one.split(".")[1]
        assert int(lowest.rstrip("af")) <= int(minor)
        assert not lowest.endswith("a") or lowest.rstrip("a") == minor
        assert lowest.endswith("a") == (major == "9")
        assert lowest.endswith("f") == (int(major) > 9)


def test_targets_of_a_family_are_only_asked_of_a_compiler_that_has_them() -> None:
    """CUDA has them from 12.9 on."""
    for version, compiler in BY_VERSION.items():
        if any(target.endswith("f") for target in architectures.compiled_for(compiler.gpus)):
            assert tuple(map(int, version.split("."))) >= (12, 9)
