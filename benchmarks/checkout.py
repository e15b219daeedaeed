"""A copy of the sources that may be changed, as users change theirs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

BUMPS = ("sniffio==1.3.0", "sniffio==1.2.0", "sniffio==1.1.0")
"""A small pure-Python distribution that every target has, at releases that it is not locked to."""


@dataclass(frozen=True)
class Variant:
    """A state of the sources.

    Attributes:
        name: of the variant; also the tag of its image.
        target: what is built.
        comment: a line at the end of roll_runtime's module; none if empty.
        pin: a requirement that overrides the lock's; none if empty.
    """

    name: str
    target: str
    comment: str = ""
    pin: str = ""


class Checkout:
    """A copy of the sources.

    Args:
        place: the directory in which `checkout` is made, or is from an earlier run.
        matrix: the matrix below the sources.
        store: the store of its builds.
        cache: their download cache.
    """

    def __init__(self, place: Path, matrix: Path, store: Path, cache: Path) -> None:
        self.path = place / "checkout"
        if not self.path.exists():
            shutil.copytree(ROOT, self.path, ignore=_ignored)
        self.matrix = self.path / matrix
        self._rows = (ROOT / matrix).read_text()
        self._module = Path("roll_runtime", "src", "roll_runtime", "__init__.py")
        self._locks = place / "locks"
        self._store, self._cache = store, cache

    def command(self, name: str, target: str, *options: str) -> list[str]:
        """Return the command line of `build.py NAME`."""
        command = [sys.executable, str(self.path / "build.py"), name, "--target", target]
        command += ["--matrix", str(self.matrix)]
        if name != "lock":
            command += ["--store", str(self._store)]
        if name in ("build", "fetch"):
            command += ["--cache", str(self._cache)]
        return [*command, *options]

    def build(self, target: str) -> None:
        """Build as users do."""
        _run(self.command("build", target))

    def at(self, variant: Variant) -> None:
        """Change the sources to a variant. A lock is made once, and kept."""
        content = (ROOT / self._module).read_text()
        (self.path / self._module).write_text(content + _comment(variant.comment))
        self.matrix.write_text(_pinned(self._rows, variant) if variant.pin else self._rows)
        lock = self.lock(variant.target)
        for path in lock.parent.glob("torch*.txt"):  # a flavour's lock depends on the plain one
            shutil.copy(ROOT / path.relative_to(self.path), path)
        kept = self._locks / f"{variant.target}-{variant.pin}.txt"
        if variant.pin and not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            _run(self.command("lock", variant.target))
            shutil.copy(lock, kept)
        if variant.pin:
            shutil.copy(kept, lock)

    def lock(self, target: str) -> Path:
        """Return the path of a target's lock."""
        if self.matrix.parent == self.path:
            return self.path / "images" / "locks" / f"{target}.txt"
        return self.matrix.parent / f"{target}.txt"

    def fetch(self, variant: Variant, source: Path) -> None:
        """Fill the download cache with what the variant needs: by hard links, else by a fetch."""
        self.at(variant)
        listing = self.command("fetch", variant.target, "--list")
        done = subprocess.run(listing, check=True, capture_output=True, text=True)
        missing = False
        for name in done.stdout.splitlines():
            there, here = source / name, self._cache / name
            if there.is_file() and not here.exists():
                here.parent.mkdir(parents=True, exist_ok=True)
                here.hardlink_to(there)
            missing |= not here.exists()
        if missing:
            _run(self.command("fetch", variant.target))


def _ignored(directory: str, names: list[str]) -> list[str]:
    """Return what no build reads; a package may have the same name as a directory at the top."""
    top = ("store", "tests", "evidence") if Path(directory) == ROOT else ()
    return [name for name in names if name.startswith(".") or name in ("__pycache__", *top)]


def _pinned(rows: str, variant: Variant) -> str:
    row = f"  - id: {variant.target}\n"
    head, _, tail = rows.partition(row)
    return f"{head}{row}    overrides:\n      - pin: {variant.pin}\n        why: benchmark\n{tail}"


def _comment(text: str) -> str:
    return f"\n# {text}\n" if text else ""


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
