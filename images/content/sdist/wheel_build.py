"""An sdist to a wheel, built with the image's own Python and locked build requirements.

Not on the host's Python: what it writes into a wheel would then depend on the host. The PEP 517
hook runs without isolation of pip's kind, and confined (`images.content.sdist.sandbox`): it sees
its source, the build requirements and the interpreter.
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
EPOCH = 315532800  # the first time that a zip can hold

_REMEDY = (
    "see whether its `build:` requirements in matrix.yaml are complete; it has no network, and no "
    "compiler unless matrix.yaml says `compiled:`"
)
_ENVIRONMENT = {"SOURCE_DATE_EPOCH": str(EPOCH), "PYTHONHASHSEED": "0", "TZ": "UTC"}
_INPUT = "input.tar"


def build(sdist: Path, requirements: Sequence[Path], python: Interpreter, workdir: Path) -> Path:
    """Build the wheel of an sdist; gives its path.

    Args:
        sdist: the `.tar.gz`.
        requirements: wheels that the build may import; only their pure Python is used.
        python: the image's interpreter.
        workdir: an empty directory for the build.

    Raises:
        IntegrityError: the sdist is not one.
        ToolError: the build failed, and the message ends with its last lines; or it cannot be
            confined on this host.
        StoreError: the disk, or the memory that the build's files are in, is full.
    """
    files = workdir / _INPUT
    pack(sdist, requirements, workdir / "unpacked", files)

    def command(place: str) -> list[str]:
        started = _seedable(python.moved(f"{place}/python"))
        return [*started, "-B", f"{place}/{WORKER.name}", place]

    trees = {"python": python.home} if python.home else {}
    output = sandbox.run(files, command, {**python.env, **_ENVIRONMENT}, workdir, trees=trees)
    files.unlink()
    with output.open("rb") as left:
        log = sandbox.log_of(left)
    return wheel_of(sdist.name, output, log, _REMEDY)


def pack(sdist: Path, requirements: Sequence[Path], place: Path, files: Path) -> None:
    """Put into a tar what the worker reads, with owners, modes and times that tell of nobody.

    Args:
        sdist: the `.tar.gz`.
        requirements: wheels that the build may import.
        place: a missing directory to unpack them in.
        files: the tar.

    Raises:
        IntegrityError: the sdist is not one.
    """
    source = sdist_archive.unpacked(sdist, place / "sdist").rename(place / "source")
    for wheel in requirements:
        with zipfile.ZipFile(wheel) as zipped:
            zipped.extractall(place / "site")  # noqa: S202  # locked, and it drops `..` and roots
    (place / "site").mkdir(exist_ok=True)
    system = json.dumps(build_system(sdist.name, source))
    (place / "system.json").write_text(system, encoding="utf-8")
    (place / WORKER.name).write_bytes(WORKER.read_bytes())
    with tarfile.open(files, "w") as tar:
        for name in ("source", "site", "system.json", WORKER.name):
            tar.add(place / name, name, filter=_anonymous)
    shutil.rmtree(place)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A file of root's with no time: a build may copy both into what it makes."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = EPOCH
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def wheel_of(name: str, output: Path, log: str, remedy: str) -> Path:
    """The wheel that a build left, beside the tar that it is in.

    Args:
        name: of the sdist.
        output: a tar of what the build left.
        log: what it printed.
        remedy: where it failed.

    Raises:
        IntegrityError: it left one of another distribution.
        ToolError: it left none, or several.
        StoreError: there was no room for its files.
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
    """See that an sdist became a wheel of the same distribution, not of one that others are.

    Raises:
        IntegrityError: it did not.
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
    """What builds the source: setuptools, unless its pyproject.toml says otherwise (PEP 517)."""
    import tomli

    path = source / "pyproject.toml"
    try:
        document = tomli.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        own: dict[str, Any] = document.get("build-system", {})
        return {"build-backend": "setuptools.build_meta:__legacy__"} | own
    except (OSError, ValueError, TypeError) as error:
        raise IntegrityError(f"{name}: its pyproject.toml cannot be read: {error}") from error


def _seedable(command: Sequence[str]) -> list[str]:
    """The command with -s and -P in place of -I, which would ignore PYTHONHASHSEED."""
    return [part for word in command for part in (("-s", "-P") if word == "-I" else (word,))]


def tail(text: str) -> str:
    """The last lines of what a build printed."""
    return "\n".join(text.splitlines()[-20:])
