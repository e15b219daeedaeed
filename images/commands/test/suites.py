"""The run of pytest on an image of the store: tests/image, tests/gpu or tests/roll."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from images.errors import ImageTestError, ToolError
from images.repository import ROOT
from images.util import output

_SUITES = ("tests/image", "tests/gpu")
_GPU_SUITE = "tests/gpu"
_ROLL_SUITE = "tests/roll"
_NEEDS = {"pytest": "pytest", "pytest-testinfra": "testinfra"}
"""Distributions that these tests import, with their modules."""
_NOTHING_RAN = 5  # pytest's exit code


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Which tests run, and where.

    Attributes:
        backend: `docker`, `rootfs`, or None for what is available.
        rootfs: the unpacked image, if there is one; the store then needs no layers.
        gpu: only the tests that need a GPU; they fail without one.
        evidence: the file for their outcome; by default beside the matrix.
        extra: more options for pytest.
        roll: a checkout of ROLL: only its code runs, with `gpu` on a GPU, else on the CPU.
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
        """Return the options of tests/conftest.py."""
        found = ["--backend", self.backend] if self.backend else []
        found += ["--rootfs", str(self.rootfs.absolute())] if self.rootfs else []
        found += ["--gpu"] if self.gpu else []
        # As one word: pytest would collect the tests of a directory that is a word of its own.
        found += [f"--roll={self.roll.absolute()}"] if self.roll else []
        found += ["--evidence", str(self.evidence.absolute())] if self.evidence else []
        return [*found, *self.extra]


def check_installed() -> None:
    """Check that the distributions of the tests are installed; building images needs none.

    Raises:
        ToolError: one is not.
    """
    absent = [name for name, module in _NEEDS.items() if find_spec(module) is None]
    if absent:
        install = shlex.join([sys.executable, "-m", "pip", "install", f"{ROOT}[test]"])
        raise ToolError(
            f"the tests of an image need {' and '.join(absent)}, which this Python does not have",
            remedy=install,
        )


def run_to_the_end(command: Sequence[str]) -> int:
    """Run a command in the checkout and return its exit code.

    Ctrl-C reaches it as well, and it may have much to clean up, such as an unpacked image.
    """
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            output.message("interrupted: the tests clean up; Ctrl-C again ends at once")
            process.wait()
            raise


def run(target: str, *, store: Path, matrix: Path, how: RunOptions) -> None:
    """Run the tests of one image; pytest prints its own report.

    Args:
        target: the image's name in the store.
        store: the OCI layout.
        matrix: the matrix file that the image was built from.
        how: which tests run, and where.

    Raises:
        ImageTestError: a test failed, or none ran.
    """
    command = [sys.executable, "-m", "pytest", *how.suites, "--target", target]
    command += ["--store", str(store.absolute()), "--matrix", str(matrix.absolute())]
    code = run_to_the_end([*command, *how.options()])
    if code:
        why = "no test ran" if code == _NOTHING_RAN else "its tests did not pass"
        raise ImageTestError(
            f"{target}: {why} (pytest's exit code {code})",
            remedy=f"to run one test: python build.py test --target {target} -- -k NAME",
        )
