"""uv as the resolver: the one place that runs it.

Index addresses, credentials and certificates come from uv's own settings (environment, uv.toml,
netrc).
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import tomli

from images import image_paths
from images.errors import FetchError, LockError, StoreError, ToolError
from images.http import certificates
from images.inputs import wheel_tags
from images.inputs.lock.artifact import Artifact
from images.inputs.resolve import pylock, uv_toml
from images.inputs.resolve.pylock import Locked
from images.inputs.resolve.uv_toml import DependencyMetadata

_COMPILE = (
    *("pip", "compile", "--format", "pylock.toml"),
    *("--python-version", image_paths.PYTHON, "--python-platform", wheel_tags.PLATFORM),
    *("--no-python-downloads", "--no-header", "--no-annotate", "--quiet"),
)
_INPUTS = ("requirements", "constraints", "overrides")
_DISTRUST = "invalid peer certificate"
_UNTRUSTED = (
    "name the file with the authority's certificate in SSL_CERT_FILE, or set UV_SYSTEM_CERTS=1 if "
    "it is among the machine's own"
)
_FILTERED = re.compile(r"`(\S+)` was filtered by `exclude-newer`")
_NO_WHEEL = "building from source is disabled"


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be resolved.

    Attributes:
        requirements: PEP 508 strings.
        constraints: as in `uv pip compile --constraints`.
        overrides: as in `uv pip compile --overrides`.
        exclude_newer: RFC 3339 time; files uploaded later are not seen.
        package_dates: such times of single packages, by name, which count instead.
        dependencies: whether the requirements' own dependencies are resolved too.
        find_links: a directory of wheels that the index does not have; they are preferred.
        sdists: distributions of which the sdist is taken, by name. Of no other one is it: to learn
            what an sdist requires, uv would run its build.
        metadata: what sdists require, which is then not asked of them.
    """

    requirements: Iterable[str]
    constraints: Iterable[str] = ()
    overrides: Iterable[str] = ()
    exclude_newer: str | None = None
    package_dates: Mapping[str, str] = field(default_factory=dict)
    dependencies: bool = True
    find_links: Path | None = None
    sdists: Collection[str] = ()
    metadata: Sequence[DependencyMetadata] = ()

    def options(self) -> list[str]:
        """The options of `uv pip compile`, but for the files of requirements."""
        found = ["--exclude-newer", self.exclude_newer] if self.exclude_newer else []
        for name, date in self.package_dates.items():
            found += ["--exclude-newer-package", f"{name}={date}"]
        found += ["--find-links", str(self.find_links)] if self.find_links else []
        found += ["--only-binary", ":all:"]
        for name in sorted(self.sdists):
            found += ["--no-binary", name]
        return [*found, *([] if self.dependencies else ["--no-deps"])]


def resolve(request: Request) -> list[Locked]:
    """The one file that each distribution of a resolution installs from, sorted by name.

    A wheel is taken where one fits the image's platform, else the sdist.

    Raises:
        LockError: there is no resolution; the message is uv's own.
        ToolError: uv cannot be run.
    """
    try:
        packages = _compile(request)
    except LockError as error:
        raise _explained(error, request) from None
    wanted = (package for package in packages if pylock.applies(package.get("marker")))
    own = request.find_links
    return sorted((pylock.best(package, own) for package in wanted), key=lambda locked: locked.name)


def _explained(error: LockError, request: Request) -> LockError:
    """The error with what helps, where uv's words do not say it."""
    said = _in_one_line(error.message)
    filtered = _FILTERED.search(said)
    if filtered and request.exclude_newer and _is_timeless(filtered[1], request):
        return LockError(
            f"{error.message}\n\nthe index tells no upload times (PEP 700), so uv takes all that "
            f"it has of {filtered[1]} for newer than `exclude_newer`",
            remedy="lock with an index that tells them, such as PyPI; any index will do to build "
            "from the lock",
        )
    if _NO_WHEEL in said:
        return LockError(
            error.message,
            remedy="pin a version that has a wheel, or list the distribution under `sdists:` in "
            "matrix.yaml with what its build needs",
        )
    return error


def _is_timeless(name: str, request: Request) -> bool:
    """Whether the index has files of a distribution, and tells of none when it was uploaded."""
    anew = Request([name], dependencies=False, sdists=request.sdists, metadata=request.metadata)
    try:
        packages = _compile(anew)
    except LockError:
        return False
    files = [file for package in packages for file in pylock.files(package)]
    return bool(files) and not any("upload-time" in file for file in files)


def locate(wanted: dict[str, Artifact]) -> dict[Artifact, str]:
    """Where the index has files that are locked already.

    Args:
        wanted: artifacts by requirement (`name==version`).

    Returns:
        The URL of each artifact that the index offers with the locked hash.

    Raises:
        FetchError: the index cannot be asked, or does not know a version at all; with uv's words.
        ToolError: uv cannot be run.
    """
    by_hash = {artifact.sha256: artifact for artifact in wanted.values()}
    try:
        packages = [
            package
            for pins in _without_rivals(wanted)
            for package in _compile(_located(pins, wanted))
        ]
    except LockError as error:
        raise FetchError(
            f"the index does not tell where the locked files are: {error.message}",
            remedy=error.particular
            or "check the network and uv's index settings, or bring back a download cache that "
            "holds the files (--cache DIR)",
        ) from None
    return {
        by_hash[sha256]: pylock.location(file)
        for package in packages
        for file in pylock.files(package)
        if (sha256 := file.get("hashes", {}).get("sha256")) in by_hash
    }


def _located(pins: Sequence[str], wanted: Mapping[str, Artifact]) -> Request:
    """Asks for files by name alone: whatever an sdist is there today, nothing of it runs."""
    sdists = [pin.partition("==")[0] for pin in pins if not wanted[pin].filename.endswith(".whl")]
    return Request(
        pins, dependencies=False, sdists=sdists, metadata=[DependencyMetadata(n) for n in sdists]
    )


def _without_rivals(pins: Iterable[str]) -> list[list[str]]:
    """The pins in lists of which none has two versions of one distribution: uv takes no such list.

    The compiler's headers come from another nvidia-cuda-runtime than the one that torch brings.
    """
    versions: dict[str, list[str]] = {}
    for pin in pins:
        versions.setdefault(pin.partition("==")[0], []).append(pin)
    return [[pin for pin in group if pin is not None] for group in zip_longest(*versions.values())]


def _compile(request: Request) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="lock-") as directory:
        place = Path(directory)
        for name in _INPUTS:
            lines = "".join(f"{line}\n" for line in getattr(request, name))
            (place / name).write_text(lines, encoding="utf-8")
        env = uv_toml.write(place, request.metadata)
        output = place / "pylock.toml"
        needed, constraints, overrides = _INPUTS
        inputs = [needed, "--constraints", constraints, "--overrides", overrides]
        options = [*request.options(), "--output-file", output.name]
        run([*_COMPILE, *interpreter(), *inputs, *options], cwd=place, env=env)
        packages: list[dict[str, Any]] = tomli.loads(output.read_text(encoding="utf-8")).get(
            "packages", []
        )
        return packages


def run(arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str] = os.environ) -> None:
    """Run uv.

    Args:
        arguments: of uv.
        cwd: where it runs.
        env: its environment; certificates that are named for the builder count for it as well.

    Raises:
        LockError: uv says no; the message is its own.
        StoreError: the disk of uv's cache or of temporary files is full.
        ToolError: uv is not installed.
    """
    whole = {**env, **certificates.for_uv(env)}
    try:
        done = subprocess.run(
            [find(), *arguments], cwd=cwd, env=whole, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ToolError(f"uv cannot be run: {error}", remedy="pip install -e .") from error
    if done.returncode:
        told = f"uv {' '.join(arguments[:2])} failed:\n{done.stderr.strip()}"
        said = _in_one_line(done.stderr)
        if os.strerror(errno.ENOSPC) in said:
            raise StoreError(
                f"no space left on a disk that uv writes to: {told}",
                remedy="free some space, or choose other places with UV_CACHE_DIR and TMPDIR",
            )
        raise LockError(told, remedy=_UNTRUSTED if _DISTRUST in said else None)


def _in_one_line(words: str) -> str:
    """What uv says, to be searched: it breaks lines where a path that it names happens to end."""
    return " ".join(words.split())


def interpreter() -> list[str]:
    """Ours, for uv: it would look for one in `.venv` of every directory above, and run it.

    Above a temporary directory that may be anybody's. The system's own, where ours has a path that
    is not UTF-8.
    """
    try:
        sys.executable.encode()
    except UnicodeEncodeError:
        return ["--python", "/usr/bin/python3"]
    return ["--python", sys.executable]


@cache
def find() -> str:
    """The uv that is pinned with the project, wherever it was installed.

    Raises:
        ToolError: it is not there, or another program is found in its stead.
    """
    from importlib.metadata import files

    from uv import find_uv_bin

    try:
        found = find_uv_bin()
    except FileNotFoundError as error:
        raise ToolError(str(error).strip(), remedy="pip install .") from error
    listed = (Path(str(file.locate())) for file in files("uv") or () if file.name == "uv")
    if not any(path.exists() and path.samefile(found) for path in listed):
        raise ToolError(
            f"{found}: not the uv of the version that the project pins: another one makes other "
            "bytes",
            remedy="pip install --force-reinstall .",
        )
    return found
