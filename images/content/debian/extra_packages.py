"""Debian packages that a flavour of a target adds: a layer of their own.

The base's layer stays as it is, so that all targets share it. dpkg installs the packages on a base
that is made for it (`images.content.debian.rootfs`); the layer has the files that this changes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from images import format_numbers, image_paths
from images.content.debian import mmdebstrap, rootfs
from images.errors import IntegrityError
from images.formats import tar_entries
from images.inputs.fetch import download_cache
from images.inputs.lock.deb import Deb
from images.oci.layer.entry import Entry
from images.util import sha256

RECIPE = Path(__file__).with_name("extra_recipe")
_WORKER = Path(__file__).with_name("extra_worker.py")

# In the caller's directory.
_REPOSITORY = "extra.tar"
_CHANGES = "changes.tar"
_GONE = "gone.json"


def key(base_debs: Sequence[Deb], debs: Sequence[Deb]) -> str:
    """Return the digest of all inputs of the layer's bytes; hexadecimal SHA-256.

    Args:
        base_debs: the locked base.
        debs: the locked packages beyond it.
    """
    files = [*sorted(RECIPE.iterdir()), _WORKER]
    return sha256.of_json(
        {
            "base": rootfs.key(base_debs),
            "debs": _hashes(debs),
            "format": format_numbers.EXTRA_PACKAGES,
            "recipe": {path.name: sha256.of_file(path) for path in files},
        }
    )


def entries(
    base_debs: Sequence[Deb], debs: Sequence[Deb], cache: Path, workdir: Path
) -> Iterator[Entry]:
    """Return the entries that differ from the base's after the packages are installed in it.

    Sorted, parents first, without device nodes; directories of the base that contain something new
    are among them, unchanged.

    Args:
        base_debs: the locked base.
        debs: the locked packages beyond it; all of both are in `cache` already.
        cache: the download cache.
        workdir: a directory for temporary files; about 1 GB.

    Raises:
        ToolError, StoreError: as `mmdebstrap.run`.
        IntegrityError: a cached file is not that of its lock, or the packages remove files of the
            base.
    """
    for package in debs:
        download_cache.checked(package.artifact, cache)
    rootfs.write_repository(debs, cache, workdir / _REPOSITORY)
    rootfs.change(base_debs, cache, workdir, _hooks)
    if gone := json.loads((workdir / _GONE).read_text(encoding="ascii")):
        raise IntegrityError(
            "the packages remove files of the base, which a layer above it cannot do:"
            + "".join(f"\n  {path}" for path in gone),
            remedy="remove the package that does so from the list that names it",
        )
    return tar_entries.entries(workdir / _CHANGES)


def _hooks(directory: Path) -> list[str]:
    tidy = (RECIPE / "tidy.sh").read_text(encoding="utf-8")
    return [
        'mkdir -m 755 "$1/extra"',
        mmdebstrap.writing(_WORKER.read_text(encoding="utf-8"), "extra/worker.py"),
        tidy,
        _worker("before /extra/before.json"),
        *mmdebstrap.unpacking(directory / _REPOSITORY),
        (rootfs.RECIPE / "install.sh").read_text(encoding="utf-8"),
        (rootfs.RECIPE / "clean.sh").read_text(encoding="utf-8"),
        tidy,
        _worker(f"after /extra/before.json /extra/{_CHANGES} /extra/{_GONE}"),
        *(
            f"download /extra/{name} {shlex.quote(str(directory / name))}"
            for name in (_CHANGES, _GONE)
        ),
    ]


def _worker(arguments: str) -> str:
    """Return a hook that runs the worker with the image's Python, which writes no byte code."""
    inside = 'env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 chroot "$1"'
    return f"{inside} /usr/bin/python{image_paths.PYTHON} -I -S -B /extra/worker.py {arguments}"


def _hashes(debs: Sequence[Deb]) -> list[str]:
    return sorted(package.artifact.sha256 for package in debs)
