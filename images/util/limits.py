"""How much is read of what comes from outside: beyond it is a bomb or damage, not software.

All limits are here; what holds files, answers and streams against them are
`images.util.untrusted_files`, `images.http.session` and `images.oci.layer.tar_stream`. This module
travels in every bundle (see `images.unbundle`).

The locks of all targets stay far below those of wheels: 12,728 files (flashinfer-cubin), 1.7 GB
(torch), 15 times the file's own size (wcwidth), 8 MB of a file that is read as a whole (py-spy's
program). The largest published images for CUDA hold about 300,000 files in 30 GB.
"""

from __future__ import annotations

from images.errors import IntegrityError

# -- wheels and sdists -----------------------------------------------------------------------------

FILES = 50_000
UNPACKED = 16 << 30
"""Bytes of all files together."""

IN_MEMORY = 64 << 20
"""Bytes of a file that is read as a whole: Python source, script, metadata, an SBOM."""

METADATA = 1 << 20
"""Bytes of a document about a distribution that is looked at before it is unpacked."""

_RATIO = 100
_SMALL = 100 << 20
"""Unpacked bytes for which no ratio is asked: a file of zeros is none the worse for it."""

# -- documents -------------------------------------------------------------------------------------

DOCUMENT = 4 << 20
"""Bytes of a manifest, an index or a config, and of every answer of a server that is read whole:
what registries must take (OCI distribution spec, "Pushing Manifests")."""

LIST = 64 << 20
"""Bytes of a file that lists many things: index.json of a store, bundle.json, a lock, evidence."""

NOTE = 512 << 20
"""Bytes of the unpacker's own note of a layer: every path, its kind and its mode."""

PAGES = 100
"""Answers of a server that names a next page each time."""

INVENTORY_LINE = 1 << 16
INVENTORY_LINES = 20_000_000

# -- layers ----------------------------------------------------------------------------------------

LAYER_FILES = 500_000
"""Members of one layer; also of all layers of an own base, whose files are kept in memory."""

LAYER_BYTES = 64 << 30
"""Bytes of a layer's tar; also of all layers of an own base."""

KEPT = 256 << 20
"""Bytes of an own base's files whose content is kept in memory to be looked into."""

TAR_HEAD = 1 << 20
"""Bytes before a tar member that say what it is: pax records, long names, maps of sparse files.
Go's archive/tar, which container engines read layers with, has the same limit."""

TAR_GLOBAL = 100
"""Records of pax headers that hold for all members that follow; they stay in memory."""

PATH = 4096
"""Bytes of a member's path and of a link's target: Linux takes no longer ones (PATH_MAX)."""

DEB_MEMBER = 1 << 30
"""Bytes of a file of a Debian package that is read as a whole."""


def check(name: str, files: int, unpacked: int, packed: int) -> None:
    """Refuse what unpacks to more than software does.

    Args:
        name: the archive, for the message.
        files: how many it holds.
        unpacked: bytes of their content.
        packed: bytes of the archive.

    Raises:
        IntegrityError: it is over a limit; the message names it.
    """
    check_count(name, files, FILES, "files")
    if unpacked > UNPACKED:
        raise IntegrityError(f"{name}: unpacks to {unpacked} bytes; {UNPACKED} are the limit")
    if unpacked > max(_SMALL, _RATIO * packed):
        raise IntegrityError(
            f"{name}: unpacks to {unpacked} bytes, more than {_RATIO} times its size: a zip bomb"
        )


def check_count(name: str, found: int, most: int, what: str) -> None:
    """Refuse more of something than a limit.

    Args:
        name: whose, for the message.
        found: how many there are, at least.
        most: the limit.
        what: of which they are so many, e.g. `files`.

    Raises:
        IntegrityError: there are more.
    """
    if found > most:
        raise IntegrityError(f"{name}: {found} {what}; {most} are the limit")
