"""The image under test as the matrix, the lock and the store describe it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from images.content import runtime_wheel
from images.inputs.lock import target_lock
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Target
from images.oci.image import Image
from images.oci.store import store
from images.oci.store.store import Store

RUNTIME = "roll-runtime"


@dataclass(frozen=True)
class Subject:
    """The image under test."""

    target: Target
    lock: Lock
    lock_path: Path
    store: Store
    image: Image

    @property
    def versions(self) -> dict[str, str]:
        """Every distribution that the image should hold, by normalised name."""
        locked = {item.name: item.version for item in self.lock.distributions}
        return {**locked, RUNTIME: runtime_wheel.version()}

    @property
    def cuda_major(self) -> str:
        """The suffix of CUDA's libraries, as in `libcudart.so.12`."""
        return self.target.cuda.partition(".")[0]

    @property
    def architectures(self) -> list[str]:
        """GPU architectures that the image says it serves, e.g. `sm_90`."""
        return self.image.labels["roll.cuda.architectures"].split()

    def need_cuda_runtime(self) -> str:
        """Skip the test, aloud, if the lock lacks the CUDA runtime; return its distribution."""
        for item in self.lock.distributions:
            if item.is_cuda_runtime:
                return item.name
        pytest.skip("not in this target's lock: the CUDA runtime")

    def need_engine(self) -> None:
        """Skip the test, aloud, if the lock lacks what SGLang's engine is imported with."""
        kernels = [name for name in ("sgl-kernel", "sglang-kernel") if name in self.versions]
        self.need("sglang", "torch", *(kernels or ["sglang-kernel"]))

    def need(self, *names: str) -> None:
        """Skip the test, aloud, if the target's lock lacks one of these distributions."""
        if missing := [name for name in names if name not in self.versions]:
            pytest.skip(f"not in this target's lock: {', '.join(missing)}")


def read_subject(matrix_path: Path, target_id: str, store_path: Path) -> Subject:
    """Read all three; an error names what is missing."""
    found = load(matrix_path)
    target = found.target(target_id)
    source = store.open_store(store_path, create=False)
    return Subject(
        target,
        target_lock.read(found, target),
        found.lock_path(target.lock_id),
        source,
        source.load(target_id),
    )
