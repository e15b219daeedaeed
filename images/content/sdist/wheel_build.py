"""The wheel of an sdist, built with the image's own Python and locked build requirements.

Not with the host's Python, or the wheel would depend on the host. The PEP 517 hook runs without
pip's build isolation, but in a sandbox (`images.content.sdist.sandbox`): it sees its source, the
build requirements and the interpreter.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from images.content.python.interpreter import Interpreter
from images.content.sdist import sandbox
from images.errors import BuildError, IntegrityError, StoreError, ToolError
from images.formats import sdist_archive

WORKER = Path(__file__).with_name("worker.py")
EPOCH = 315532800  # the earliest time that a zip can represent

_REMEDY = (
    "check that its `build:` requirements in matrix.yaml are complete; it has no network, and no "
    "compiler without `compiled:` in matrix.yaml"
)
_ENVIRONMENT = {"SOURCE_DATE_EPOCH": str(EPOCH), "PYTHONHASHSEED": "0", "TZ": "UTC"}
_INPUT = "input.tar"


def build(sdist: Path, requirements: Sequence[Path], python: Interpreter, workdir: Path) -> Path:
    """Build the wheel of an sdist and return its path.

    Args:
        sdist: the `.tar.gz`.
        requirements: wheels that the build may import; only their pure Python is used.
        python: the image's interpreter.
        workdir: an empty directory for the build.

    Raises:
        IntegrityError: the file is not an sdist, or the wheel is of another distribution.
        ToolError: the build failed, and the message ends with its last lines; or this host
            permits no sandbox.
        StoreError: the disk, or the memory that holds the build's files, is full.
    """
    files = workdir / _INPUT
    pack(sdist, requirements, workdir / "unpacked", files)

    def command(directory: str) -> list[str]:
        started = _seedable(python.moved(f"{directory}/python"))
        return [*started, "-B", f"{directory}/{WORKER.name}", directory]

    trees = {"python": python.home} if python.home else {}
    output = sandbox.run(files, command, {**python.env, **_ENVIRONMENT}, workdir, trees=trees)
    files.unlink()
    with output.open("rb") as left:
        log = sandbox.log_of(left)
    return wheel_of(sdist.name, output, log, _REMEDY)


def pack(sdist: Path, requirements: Sequence[Path], workdir: Path, files: Path) -> None:
    """Write a tar of the worker's input, with owners, modes and times that are the same everywhere.

    Args:
        sdist: the `.tar.gz`.
        requirements: wheels that the build may import.
        workdir: a missing directory to unpack them in.
        files: the tar.

    Raises:
        IntegrityError: the file is not an sdist.
    """
    source = sdist_archive.unpacked(sdist, workdir / "sdist").rename(workdir / "source")
    for wheel in requirements:
        with zipfile.ZipFile(wheel) as zipped:
            zipped.extractall(workdir / "site")  # noqa: S202  # locked, and it drops `..` and roots
    (workdir / "site").mkdir(exist_ok=True)
    system = json.dumps(build_system(sdist.name, source))
    (workdir / "system.json").write_text(system, encoding="utf-8")
    (workdir / WORKER.name).write_bytes(WORKER.read_bytes())
    with tarfile.open(files, "w") as tar:
        for name in ("source", "site", "system.json", WORKER.name):
            tar.add(workdir / name, name, filter=_anonymous)
    shutil.rmtree(workdir)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return a member with fixed owner, time and mode, which a build may copy into its wheel."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = EPOCH
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def wheel_of(name: str, output: Path, log: str, remedy: str) -> Path:
    """Extract the wheel from a build's output, beside it, and return its path.

    Args:
        name: of the sdist.
        output: a tar of the files that the build left.
        log: the build's output.
        remedy: for a failed build.

    Raises:
        IntegrityError: the wheel is of another distribution.
        ToolError: there is no wheel, or several.
        StoreError: the disk was full.
    """
    with tarfile.open(output) as tar:
        wheels = [member for member in tar if member.isfile() and member.name.endswith(".whl")]
        if not wheels:
            raise _failed(f"{name}: its build failed:\n{tail(log)}", log, remedy)
        if len(wheels) > 1:
            raise ToolError(f"{name}: its build made {len(wheels)} wheels, not one")
        made = output.with_name(wheels[0].name.rpartition("/")[2])
        _check_name(name, made.name)
        if (content := tar.extractfile(wheels[0])) is None:
            raise AssertionError("a file has content")
        with made.open("wb") as sink:
            shutil.copyfileobj(content, sink)
    return made


def _check_name(sdist: str, wheel: str) -> None:
    """Check that a wheel is of its sdist's distribution and version.

    Raises:
        IntegrityError: it is not.
    """
    from packaging import utils

    try:
        made = utils.parse_wheel_filename(wheel)[:2]
        of_sdist = utils.parse_sdist_filename(sdist)
    except ValueError as error:
        raise IntegrityError(f"{sdist}: its build made {wheel!r}: {error}") from error
    if made != of_sdist:
        raise IntegrityError(f"{sdist}: its build made a wheel of another distribution: {wheel}")


def _failed(message: str, log: str, remedy: str) -> BuildError:
    if os.strerror(errno.ENOSPC) in log:
        return StoreError(message, remedy=sandbox.NO_ROOM)
    return ToolError(message, remedy=remedy)


def build_system(name: str, source: Path) -> dict[str, Any]:
    """Return the `build-system` table of the source; by default that of setuptools (PEP 517).

    Raises:
        IntegrityError: its pyproject.toml cannot be read.
    """
    import tomli

    path = source / "pyproject.toml"
    try:
        document = tomli.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        own: dict[str, Any] = document.get("build-system", {})
        return {"build-backend": "setuptools.build_meta:__legacy__"} | own
    except (OSError, ValueError, TypeError) as error:
        raise IntegrityError(f"{name}: its pyproject.toml cannot be read: {error}") from error


def _seedable(command: Sequence[str]) -> list[str]:
    """Return the command with -s and -P in place of -I, which would ignore PYTHONHASHSEED."""
    return [part for word in command for part in (("-s", "-P") if word == "-I" else (word,))]


def tail(text: str) -> str:
    """Return the last lines of a build's output."""
    return "\n".join(text.splitlines()[-20:])
