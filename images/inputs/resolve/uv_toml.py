"""The uv.toml of one run of uv: the user's settings, and the requirements of sdists.

uv takes the latter (`dependency-metadata`) only from its settings file, and otherwise runs the
build of an sdist to read them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from images.errors import LockError
from images.inputs import uv_settings

_FILE = "uv.toml"
_NONE, _OTHER = "UV_NO_CONFIG", "UV_CONFIG_FILE"


@dataclass(frozen=True, slots=True)
class DependencyMetadata:
    """The requirements of a distribution, as its metadata states them.

    Attributes:
        name: normalised.
        version: None for all versions that have no record of their own.
        requires: PEP 508 strings.
    """

    name: str
    version: str | None = None
    requires: Sequence[str] = ()


def write(
    directory: Path, metadata: Iterable[DependencyMetadata], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Write the settings for a run into a directory, and return the environment of that run.

    A file is written in any case: without one, uv reads that of a directory above, which may be
    another user's above a temporary directory.

    Args:
        directory: uv's working directory.
        metadata: the requirements of sdists.
        environ: the user's environment.

    Raises:
        LockError: the file that `UV_CONFIG_FILE` names cannot be read.
    """
    path = directory / _FILE
    path.write_text(_of_user(environ) + "".join(map(_table, metadata)), encoding="utf-8")
    if not (uv_settings.is_without_files(environ) or environ.get(_OTHER)):
        return dict(environ)
    kept = {name: value for name, value in environ.items() if name != _NONE}
    return {**kept, _OTHER: str(path)}


def _of_user(environ: Mapping[str, str]) -> str:
    """Return the text of the file that replaces all others, if there is one."""
    if uv_settings.is_without_files(environ) or not (named := environ.get(_OTHER)):
        return ""
    try:
        return f"{Path(named).read_text(encoding='utf-8')}\n"
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(f"{_OTHER}: {named}: cannot be read: {error}") from error


def _table(one: DependencyMetadata) -> str:
    fields = {"name": one.name, "version": one.version, "requires-dist": list(one.requires)}
    lines = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}\n"
        for name, value in fields.items()
        if value is not None
    ]
    return "".join(["[[dependency-metadata]]\n", *lines])
