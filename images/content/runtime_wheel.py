"""The wheel of `roll_runtime`, built from the sources in this repository."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from images.errors import LockError, StoreError, ToolError
from images.repository import ROLL_RUNTIME, SGLANG_VERSIONS
from images.util import sha256

SOURCE = ROLL_RUNTIME

_WITH_UV = "pip install .  # installs the uv that the project is pinned to"
_EPOCH = "315532800"
_IGNORED = frozenset({"__pycache__", "build", "dist", ".mypy_cache", ".ruff_cache"})


def source_files() -> list[Path]:
    """Return the files that the wheel is made from, sorted, without what tools leave behind."""
    return sorted(
        Path(directory) / name
        for directory, children, names in _walk()
        for name in names
        if not name.endswith(".pyc")
    )


def _walk() -> list[tuple[str, list[str], list[str]]]:
    found = []
    for directory, children, names in os.walk(SOURCE):
        children[:] = [
            name for name in children if name not in _IGNORED and not name.endswith(".egg-info")
        ]
        found.append((directory, children, names))
    return found


def source_digest() -> str:
    """Return the SHA-256, in hexadecimal, of the names and contents of the sources."""
    digest = hashlib.sha256()
    begin = len(f"{SOURCE}{os.sep}")
    for path in source_files():
        content = path.read_bytes()
        name = str(path)[begin:]
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def modules() -> dict[str, str]:
    """Return the SHA-256, in hexadecimal, of the package's modules by their file names."""
    return {path.name: sha256.of_file(path) for path in SGLANG_VERSIONS.parent.glob("*.py")}


def build(workdir: Path) -> Path:
    """Build the wheel in `workdir` and return its path.

    The sources are copied first: their modes must not depend on the umask of the checkout.

    Raises:
        ToolError: uv cannot build it; the message is uv's.
        StoreError: the disk of `workdir`, of uv's cache or of temporary files is full.
    """
    from images.inputs.resolve import uv

    source, output = workdir / "source", workdir / "wheel"
    for path in source_files():
        copy = source / path.relative_to(SOURCE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        copy.chmod(0o644)
    # No settings, which uv would look for in every parent directory: nothing is fetched for this.
    env = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH, "UV_NO_CONFIG": "1"}
    env.pop("UV_CONFIG_FILE", None)
    try:
        # By relative names: uv takes UTF-8 paths only, and the user chooses the directory.
        command = ["build", "--wheel", *uv.interpreter(), "--out-dir", output.name]
        uv.run([*command, source.name], cwd=workdir, env=env)
    except LockError as error:
        raise ToolError(error.message, remedy=_WITH_UV) from None
    except StoreError as error:
        # uv's message does not say which disk it is, and `workdir` is in the store.
        raise StoreError(
            f"the disk that holds the store is full, or another one: {error.message}",
            remedy="free some space (python build.py gc), or choose other directories with "
            "--store DIR, UV_CACHE_DIR and TMPDIR",
        ) from None
    wheels = list(output.glob("*.whl"))
    if len(wheels) != 1:
        raise ToolError(f"uv built {len(wheels)} wheels of roll_runtime, not one", remedy=_WITH_UV)
    return wheels[0]


def version() -> str:
    """Return the version of `roll_runtime` in its pyproject.toml."""
    text = (SOURCE / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise ToolError(
            f'{SOURCE / "pyproject.toml"}: no line `version = "…"`',
            remedy="git checkout roll_runtime/pyproject.toml",
        )
    return found[1]
