"""An sdist to a wheel, built with the image's own Python and locked build requirements.

Not on the host's Python: what it writes into a wheel would then depend on the host. The PEP 517
hooks are called through `pyproject_hooks`, the library that pip and build use for it.
"""

from __future__ import annotations

import errno
import subprocess
import tarfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from images import limits
from images.errors import IntegrityError, ToolError
from images.interpreter import Interpreter

FORMAT = "1"
"""Part of the key of every layer with a built wheel. Raise it when other wheels come out."""

_REMEDY = "see whether its `build:` requirements in matrix.yaml are complete"
_EPOCH = "315532800"  # the first time that a zip can hold
# -S and -I keep the host out; the build requirements come in here, and nothing else.
_RUN = "import runpy, sys; sys.path[:0] = [{site!r}]; sys.argv = sys.argv[1:]; " + (
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


def build(sdist: Path, requirements: Sequence[Path], python: Interpreter, workdir: Path) -> Path:
    """Build the wheel of an sdist without isolation; gives its path.

    Args:
        sdist: the `.tar.gz`.
        requirements: wheels that the build may import; only their pure Python is used.
        python: the image's interpreter.
        workdir: an empty directory for the build.

    Raises:
        IntegrityError: the sdist is not one.
        ToolError: the build failed; the message ends with its last lines.
    """
    source = unpacked(sdist, workdir / "source")
    site = workdir / "site"
    # Not at the top: a build that makes nothing asks this module for its FORMAT alone.
    import pyproject_hooks as pep517

    for wheel in requirements:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)  # noqa: S202  # locked, and zipfile drops `..` and roots
    system = build_system(sdist.name, source)
    output = workdir / "wheel"
    output.mkdir()

    def runner(
        cmd: Sequence[str],
        cwd: str | None = None,
        extra_environ: Mapping[str, str] | None = None,
    ) -> None:
        _run(sdist.name, python, site, cmd, cwd, extra_environ or {})

    # What a build backend thinks of a locked source helps nobody who builds an image.
    warnings.filterwarnings("ignore", category=pep517.BuildBackendWarning)
    try:
        hooks = pep517.BuildBackendHookCaller(
            str(source),
            system["build-backend"],
            system.get("backend-path"),
            runner=runner,
            python_executable="python",
        )
        wheel = output / hooks.build_wheel(str(output))
    except (
        pep517.BackendUnavailable,
        pep517.HookMissing,
        pep517.UnsupportedOperation,
        ValueError,
        OSError,
    ) as error:
        _raise_if_disk_full(error)
        detail = getattr(error, "traceback", "") or str(error)
        raise ToolError(
            f"{sdist.name}: its build failed:\n{tail(detail)}", remedy=_REMEDY
        ) from error
    if not wheel.is_file():
        raise ToolError(f"{sdist.name}: its build made no {wheel.name}")
    return wheel


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


def unpacked(sdist: Path, destination: Path) -> Path:
    """The source tree, without links and devices, in modes that do not tell of a umask."""
    try:
        packed, unpacked = sdist.stat().st_size, 0
        with tarfile.open(sdist, "r:gz") as archive:
            for number, member in enumerate(archive, 1):
                unpacked += member.size
                limits.check(sdist.name, number, unpacked, packed)
                parts = member.name.split("/")
                if not (member.isfile() or member.isdir()) or ".." in parts or parts[0] == "":
                    raise ValueError(f"{member.name}: a link, a device, or outside the source")
                # setuptools carries modes over into the wheel.
                member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
                archive.extract(member, destination, set_attrs=False)
                (destination / member.name).chmod(member.mode)
        (source,) = (child for child in destination.iterdir() if child.is_dir())
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        _raise_if_disk_full(error)
        raise IntegrityError(f"{sdist.name}: not an sdist: {error}") from error
    return source


def _raise_if_disk_full(error: Exception) -> None:
    """The disk is then at fault, not the sdist: whoever holds the working directory says so."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise error


def _seedable(command: Sequence[str]) -> list[str]:
    """The command with -s and -P in place of -I, which would ignore PYTHONHASHSEED."""
    return [part for word in command for part in (("-s", "-P") if word == "-I" else (word,))]


def _run(
    name: str,
    python: Interpreter,
    site: Path,
    command: Sequence[str],
    cwd: str | None,
    extra: Mapping[str, str],
) -> None:
    env = {**python.env, **extra, "SOURCE_DATE_EPOCH": _EPOCH, "PYTHONHASHSEED": "0", "TZ": "UTC"}
    done = subprocess.run(
        [*_seedable(python.command), "-c", _RUN.format(site=str(site)), *command[1:]],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        errors="replace",
        umask=0o022,
        check=False,
    )
    if done.returncode:
        raise ToolError(
            f"{name}: its build failed with status {done.returncode}:\n"
            f"{tail(done.stdout + done.stderr)}",
            remedy=_REMEDY,
        )


def tail(text: str) -> str:
    """The last lines of what a build printed."""
    return "\n".join(text.splitlines()[-20:])
