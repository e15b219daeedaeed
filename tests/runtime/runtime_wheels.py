"""SGLang's wheels for the contract tests: locked by hash, fetched once, unpacked as far as needed.

Fetched by pip with its own settings (index, proxy, certificates); none are written here. Kept in
``$ROLL_IMAGES_WHEELS`` or ``~/.cache/roll-images/wheels``, as ``<sha256>/<file name>``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

LOCK = Path(__file__).with_name("wheels.lock")

_LINE = re.compile(
    r"sglang==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64}) # (?P<name>\S+) (?P<size>\d+)"
)


class Wheel(NamedTuple):
    """One line of the lock."""

    version: str
    sha256: str
    name: str
    size: int


def read_lock() -> dict[str, Wheel]:
    """Return the locked wheels by version."""
    wheels = {}
    for line in LOCK.read_text().splitlines():
        if not line.startswith("#"):
            match = _LINE.fullmatch(line)
            assert match is not None, f"{LOCK.name}: cannot read {line!r}"
            wheels[match["version"]] = Wheel(
                match["version"], match["sha256"], match["name"], int(match["size"])
            )
    return wheels


def cache() -> Path:
    """Return the directory that keeps the wheels."""
    default = Path.home() / ".cache" / "roll-images" / "wheels"
    return Path(os.environ.get("ROLL_IMAGES_WHEELS") or default)


def fetch(wheel: Wheel) -> Path:
    """Return the wheel's path, fetched and checked if it is not there."""
    path = cache() / wheel.sha256 / wheel.name
    if path.is_file() and path.stat().st_size == wheel.size:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        subprocess.run([*_pip(), "download", *_options(wheel, folder)], check=True, timeout=600)
        got = Path(folder) / wheel.name
        digest = hashlib.sha256(got.read_bytes()).hexdigest()
        assert digest == wheel.sha256, (
            f"SHA256 mismatch for {wheel.name}: expected '{wheel.sha256}', got '{digest}'"
        )
        got.replace(path)
    return path


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    uv = shutil.which("uv")
    assert uv is not None, "fetching SGLang's wheels needs pip or uv"
    return [uv, "run", "--quiet", "--no-project", "--with", "pip", "python", "-m", "pip"]


def _options(wheel: Wheel, folder: str) -> list[str]:
    # The wheels with extensions are those of the images: CPython 3.11 on x86_64.
    platforms = ("any", "manylinux_2_28_x86_64", "manylinux_2_34_x86_64")
    return [
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version=3.11",
        *(f"--platform={platform}" for platform in platforms),
        f"--dest={folder}",
        f"sglang=={wheel.version}",
    ]


def unpack(path: Path, target: Path) -> Path:
    """Unpack the Python files that the tests read; return the directory that holds ``sglang``."""
    wanted = re.compile(
        r"sglang/(version|_version|srt/server_args|srt/entrypoints/engine|srt/managers/io_struct"
        r"|srt/managers/(tokenizer_manager|schedule_batch|scheduler|scheduler_update_weights_mixin)"
        r"|srt/constants|srt/configs/model_config"
        r"|srt/managers/scheduler_components/weight_updater|srt/arg_groups/fields/\w+"
        r"|srt/layers/(parameter|linear|quantization/(fp8|base_config|kv_cache)))\.py"
    )
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if wanted.fullmatch(name):
                archive.extract(name, target)
    return target
