"""Runs the tests of an image of a store: tests/image, tests/gpu, tests/roll."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from images.errors import ImageTestError, ToolError

_ROOT = Path(__file__).parent.parent
_SUITES = ("tests/image", "tests/gpu")
_GPU_SUITE = "tests/gpu"
_ROLL_SUITE = "tests/roll"
_NOTHING_RAN = 5  # pytest's exit code


@dataclass(frozen=True, slots=True)
class How:
    """How an image is tested.

    Attributes:
        backend: `docker`, `rootfs`, or None for what there is.
        rootfs: the image as it was unpacked before, if it was; then the store needs no layers.
        gpu: the tests that need a GPU alone; they fail where there is none.
        evidence: where the outcome of those is kept; by default beside the matrix.
        extra: more options for pytest.
        roll: a checkout of ROLL: its code alone is run, with `gpu` on a GPU, else on the CPU.
    """

    backend: str | None = None
    rootfs: Path | None = None
    gpu: bool = False
    evidence: Path | None = None
    extra: Sequence[str] = ()
    roll: Path | None = None

    @property
    def suites(self) -> tuple[str, ...]:
        """The directories of tests that run."""
        if self.roll is not None:
            return (_ROLL_SUITE,)
        return (_GPU_SUITE,) if self.gpu else _SUITES

    def options(self) -> list[str]:
        """The options that tests/conftest.py takes."""
        found = ["--backend", self.backend] if self.backend else []
        found += ["--rootfs", str(self.rootfs.absolute())] if self.rootfs else []
        found += ["--gpu"] if self.gpu else []
        # In one word: pytest takes a directory by itself for one of tests, and ROLL has some.
        found += [f"--roll={self.roll.absolute()}"] if self.roll else []
        found += ["--evidence", str(self.evidence.absolute())] if self.evidence else []
        return [*found, *self.extra]


def run(target: str, *, store: Path, matrix: Path, how: How) -> None:
    """Run the tests of one image; pytest prints its own report.

    Args:
        target: the image's name in the store.
        store: the OCI layout.
        matrix: the matrix file that the image was built from.
        how: which tests, and where.

    Raises:
        ImageTestError: a test failed, or none ran.
        ToolError: pytest is not installed.
    """
    command = [sys.executable, "-m", "pytest", *how.suites, "--target", target]
    command += ["--store", str(store.absolute()), "--matrix", str(matrix.absolute())]
    try:
        import pytest  # noqa: F401  # only whether it is there
    except ImportError:
        raise ToolError("pytest is not installed", remedy="pip install -e '.[test]'") from None
    code = subprocess.run([*command, *how.options()], cwd=_ROOT, check=False).returncode
    if code:
        why = "no test ran" if code == _NOTHING_RAN else "its tests did not pass"
        raise ImageTestError(f"{target}: {why} (pytest's exit code {code})")
