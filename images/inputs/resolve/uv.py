"""uv as the resolver. No other module runs it.

Index URLs, credentials and certificates come from uv's own settings (environment, uv.toml, netrc).
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


class UvError(LockError):
    """uv failed; the message quotes it.

    Attributes:
        output: uv's own text in one line: uv has no other form for what was wrong.
    """

    def __init__(self, message: str, output: str, *, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.output = output


@dataclass(frozen=True, slots=True)
class Request:
    """The input of a resolution.

    Attributes:
        requirements: PEP 508 strings.
        constraints: as in `uv pip compile --constraints`.
        overrides: as in `uv pip compile --overrides`.
        exclude_newer: RFC 3339 time; files uploaded later are ignored.
        package_dates: such times for single packages, by name; they replace `exclude_newer`.
        dependencies: whether the requirements' own dependencies are resolved too.
        find_links: a directory of wheels that the index does not have; they are preferred.
        sdists: names of distributions of which the sdist is taken. Others are taken as wheels
            alone: to read the requirements of an sdist, uv would run its build.
        metadata: the requirements of sdists, which uv then does not read from them.
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
        """Return the options of `uv pip compile`, except the files of requirements."""
        found = ["--exclude-newer", self.exclude_newer] if self.exclude_newer else []
        for name, date in self.package_dates.items():
            found += ["--exclude-newer-package", f"{name}={date}"]
        found += ["--find-links", str(self.find_links)] if self.find_links else []
        found += ["--only-binary", ":all:"]
        for name in sorted(self.sdists):
            found += ["--no-binary", name]
        return [*found, *([] if self.dependencies else ["--no-deps"])]


def resolve(request: Request) -> list[Locked]:
    """Return the file that each distribution of a resolution is installed from, sorted by name.

    It is a wheel if one fits the image's platform, else the sdist.

    Raises:
        UvError: there is no resolution.
        ToolError: uv cannot be run.
    """
    try:
        packages = _compile(request)
    except UvError as error:
        raise _explained(error, request) from None
    wanted = (package for package in packages if pylock.applies(package.get("marker")))
    links = request.find_links
    return sorted(
        (pylock.best(package, links) for package in wanted), key=lambda locked: locked.name
    )


def _explained(error: UvError, request: Request) -> UvError:
    """Return the error with a remedy, where uv's text does not have one."""
    filtered = _FILTERED.search(error.output)
    if filtered and request.exclude_newer and _is_timeless(filtered[1], request):
        return error.reworded(
            f"{error.message}\n\nthe index states no upload times (PEP 700), so uv treats all "
            f"files of {filtered[1]} as newer than `exclude_newer`",
            remedy="lock with an index that states them, such as PyPI; any index will do to build "
            "from the lock",
        )
    if _NO_WHEEL in error.output:
        return error.reworded(
            remedy="pin a version that has a wheel, or list the distribution under `sdists:` in "
            "matrix.yaml with what its build needs",
        )
    return error


def _is_timeless(name: str, request: Request) -> bool:
    """Return whether the index has files of a distribution, but no upload time of any."""
    anew = Request([name], dependencies=False, sdists=request.sdists, metadata=request.metadata)
    try:
        packages = _compile(anew)
    except LockError:
        return False
    files = [file for package in packages for file in pylock.files(package)]
    return bool(files) and not any("upload-time" in file for file in files)


def locate(wanted: dict[str, Artifact]) -> dict[Artifact, str]:
    """Return the URLs of locked files.

    Args:
        wanted: artifacts by requirement (`name==version`).

    Returns:
        The URL of each artifact that the index has with the locked hash.

    Raises:
        FetchError: the index is unreachable, or lacks a version; the message is uv's.
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
            f"the index does not locate the locked files: {error.message}",
            remedy=error.particular
            or "check the network and uv's index settings, or restore a download cache that has "
            "the files (--cache DIR)",
        ) from None
    return {
        by_hash[sha256]: pylock.location(file)
        for package in packages
        for file in pylock.files(package)
        if (sha256 := file.get("hashes", {}).get("sha256")) in by_hash
    }


def _located(pins: Sequence[str], wanted: Mapping[str, Artifact]) -> Request:
    """Return a request for files by name alone, so that no sdist of the index is run."""
    sdists = [pin.partition("==")[0] for pin in pins if not wanted[pin].filename.endswith(".whl")]
    return Request(
        pins, dependencies=False, sdists=sdists, metadata=[DependencyMetadata(n) for n in sdists]
    )


def _without_rivals(pins: Iterable[str]) -> list[list[str]]:
    """Return pins in lists, none with two versions of one distribution: uv rejects such a list.

    The compiler's headers come from another nvidia-cuda-runtime than the one that torch requires.
    """
    versions: dict[str, list[str]] = {}
    for pin in pins:
        versions.setdefault(pin.partition("==")[0], []).append(pin)
    return [[pin for pin in group if pin is not None] for group in zip_longest(*versions.values())]


def _compile(request: Request) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="lock-") as temporary:
        directory = Path(temporary)
        for name in _INPUTS:
            lines = "".join(f"{line}\n" for line in getattr(request, name))
            (directory / name).write_text(lines, encoding="utf-8")
        env = uv_toml.write(directory, request.metadata)
        output = directory / "pylock.toml"
        needed, constraints, overrides = _INPUTS
        inputs = [needed, "--constraints", constraints, "--overrides", overrides]
        options = [*request.options(), "--output-file", output.name]
        run([*_COMPILE, *interpreter(), *inputs, *options], cwd=directory, env=env)
        packages: list[dict[str, Any]] = tomli.loads(output.read_text(encoding="utf-8")).get(
            "packages", []
        )
        return packages


def run(arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str] = os.environ) -> None:
    """Run uv.

    Args:
        arguments: of uv.
        cwd: its working directory.
        env: its environment; certificates that are set for the builder are added.

    Raises:
        UvError: uv failed.
        StoreError: the disk of uv's cache or of temporary files is full.
        ToolError: uv is not installed.
    """
    whole = {**env, **certificates.for_uv(env)}
    try:
        done = subprocess.run(
            [find(), *arguments], cwd=cwd, env=whole, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ToolError(f"uv cannot be run: {error}", remedy="pip install .") from error
    if done.returncode:
        failure = f"uv {' '.join(arguments[:2])} failed:\n{done.stderr.strip()}"
        words = _in_one_line(done.stderr)
        if os.strerror(errno.ENOSPC) in words:
            raise StoreError(
                f"no space left on a disk that uv writes to: {failure}",
                remedy="free some space, or choose other directories with UV_CACHE_DIR and TMPDIR",
            )
        raise UvError(failure, words, remedy=_UNTRUSTED if _DISTRUST in words else None)


def _in_one_line(message: str) -> str:
    """Return a message of uv without its line breaks, which depend on the length of paths."""
    return " ".join(message.split())


def interpreter() -> list[str]:
    """Return the options that make uv use the builder's Python.

    Otherwise uv runs the one of a `.venv` in any directory above, which may be another user's above
    a temporary directory. If the path of the builder's Python is not UTF-8, it is the system's.
    """
    try:
        sys.executable.encode()
    except UnicodeEncodeError:
        return ["--python", "/usr/bin/python3"]
    return ["--python", sys.executable]


@cache
def find() -> str:
    """Return the path of the uv that the project pins, wherever it is installed.

    Raises:
        ToolError: it is not installed, or another program is found in its place.
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
            f"{found}: not the version of uv that the project pins; another one makes other bytes",
            remedy="pip install --force-reinstall .",
        )
    return found
