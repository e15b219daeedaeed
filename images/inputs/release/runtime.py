"""What `roll_runtime` says to a release: its contract and its tables, run in a copy of it.

`roll_runtime` shares no code with the builder, so its own command line is run. It parses SGLang's
sources and executes none of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from images.errors import BuildError, ToolError
from images.repository import ROLL_RUNTIME, SGLANG_VERSIONS

_MISSING, _NOTE = "  missing: ", "  note: "


class ContractError(BuildError):
    """SGLang's sources do not have what `roll_runtime` relies on."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A copy of `roll_runtime` with another table of versions."""

    sources: Path

    def contract(self, wheel: Path) -> tuple[list[str], list[str]]:
        """Check a wheel; return what is missing, each with its file, and notes.

        Raises:
            ToolError: the check itself failed.
        """
        done = self._run("-m", "roll_runtime", "contract", str(wheel))
        lines = done.stdout.splitlines()
        missing = [line.removeprefix(_MISSING) for line in lines if line.startswith(_MISSING)]
        if done.returncode and not missing:
            raise ToolError(
                f"the contract of roll_runtime cannot be checked:\n{done.stdout}{done.stderr}",
                remedy=f"python -m roll_runtime contract {wheel}  # in roll_runtime/src",
            )
        return missing, [line.removeprefix(_NOTE) for line in lines if line.startswith(_NOTE)]

    def document(self, text: str) -> str:
        """Return the document of `roll_runtime` with its tables written again.

        Raises:
            ToolError: they cannot be written.
        """
        path = self.sources / "document.md"
        path.write_text(text, encoding="utf-8")
        done = self._run("-m", "roll_runtime.tables", str(path))
        if done.returncode:
            raise ToolError(f"the tables of roll_runtime cannot be written:\n{done.stderr}")
        return path.read_text(encoding="utf-8")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.sources,
            env={**os.environ, "PYTHONPATH": str(self.sources)},
            capture_output=True,
            text=True,
            check=False,
        )


@contextmanager
def with_versions(text: str) -> Iterator[Runtime]:
    """Yield a copy of `roll_runtime` whose table of versions has this text."""
    with tempfile.TemporaryDirectory(prefix="roll-runtime-") as temporary:
        sources = Path(temporary) / "src"
        shutil.copytree(ROLL_RUNTIME / "src", sources)
        table = sources / SGLANG_VERSIONS.relative_to(ROLL_RUNTIME / "src")
        table.write_text(text, encoding="utf-8")
        yield Runtime(sources)
