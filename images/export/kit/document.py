"""`kit.json`, the document of a kit: its only writer and reader."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from images.errors import IntegrityError, UsageError
from images.util import limits, untrusted_files, untrusted_json

NAME = "kit.json"
PROGRAM = "prove.py"
SUITE = "suite.tar"
WHEELS, BUNDLES, EVIDENCE = "wheels", "bundles", "evidence"
"""Directories of a kit; the last is where the program writes by default."""

TURNS = "ROLL_IMAGES_TURNS"
"""The variable that names the directory of the locks of suites that share a GPU
(`tests/gpu/turns.py`)."""

FORMAT = 1


@dataclass(frozen=True, slots=True)
class KitTarget:
    """A target whose image is to be proven.

    Attributes:
        id: its id; the bundle is in `bundles/ID`.
        digest: of the image's manifest.
        since: the end of the image's inputs, RFC 3339: no test can have run before.
    """

    id: str
    digest: str
    since: str


@dataclass(frozen=True, slots=True)
class Kit:
    """The content of `kit.json`.

    Attributes:
        targets: in the order in which their bundles build on each other.
        suite_sha256: of `suite.tar`.
        matrix: the path of the matrix in it.
        wheels: SHA-256 of the files in `wheels`, by name.
        gpu_tests: the tests for every target, as pytest's arguments.
        roll_tests: those of ROLL's own code.
    """

    targets: tuple[KitTarget, ...]
    suite_sha256: str
    matrix: str
    wheels: Mapping[str, str]
    gpu_tests: tuple[str, ...] = ("tests/gpu",)
    roll_tests: tuple[str, ...] = ("tests/roll",)


def encode(kit: Kit) -> bytes:
    """Return the bytes of `kit.json`; the same for the same kit."""
    return json.dumps({"kit": FORMAT, **asdict(kit)}, indent=1).encode() + b"\n"


def read(directory: Path) -> Kit:
    """Return the kit in a directory.

    Raises:
        UsageError: there is none.
        IntegrityError: its document is damaged, or of another format.
    """
    path = directory / NAME
    try:
        return _parse(untrusted_json.loads(untrusted_files.whole(path, limits.LIST)))
    except FileNotFoundError:
        raise UsageError(
            f"{path}: not found", remedy="name the output directory of `build.py prove --out`"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{path}: not the document of a kit: {error!r}", remedy="send it again"
        ) from error


def _parse(value: dict[str, Any]) -> Kit:
    if value.pop("kit") != FORMAT:
        raise ValueError("another format")
    value["targets"] = tuple(KitTarget(**target) for target in value["targets"])
    for name in ("gpu_tests", "roll_tests"):
        value[name] = tuple(map(str, value[name]))
    return Kit(**{**value, "wheels": dict(value["wheels"])})
