"""Runs tests/image against an image of a store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from images.errors import ImageTestError, ToolError

_ROOT = Path(__file__).parent.parent
_SUITES = ("tests/image", "tests/gpu")
_NOTHING_RAN = 5  # pytest's exit code


def run(
    target: str, *, store: Path, matrix: Path, backend: str | None, extra: Sequence[str] = ()
) -> None:
    """Run the tests of one image; pytest prints its own report.

    Args:
        target: the image's name in the store.
        store: the OCI layout.
        matrix: the matrix file that the image was built from.
        backend: `docker`, `rootfs`, or None for what there is.
        extra: more options for pytest.

    Raises:
        ImageTestError: a test failed, or none ran.
        ToolError: pytest is not installed.
    """
    command = [sys.executable, "-m", "pytest", *_SUITES, "--target", target]
    command += ["--store", str(store.absolute()), "--matrix", str(matrix.absolute())]
    command += ["--backend", backend] if backend else []
    try:
        import pytest  # noqa: F401  # only whether it is there
    except ImportError:
        raise ToolError("pytest is not installed", remedy="pip install -e '.[test]'") from None
    code = subprocess.run([*command, *extra], cwd=_ROOT, check=False).returncode
    if code:
        why = "no test ran" if code == _NOTHING_RAN else "its tests did not pass"
        raise ImageTestError(f"{target}: {why} (pytest's exit code {code})")
