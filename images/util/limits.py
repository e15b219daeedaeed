"""Limits of untrusted input: what exceeds them is a bomb or damaged, not software.

All limits are here. They are enforced for files, responses and streams by
`images.util.untrusted_files`, `images.http.session` and `images.oci.layer.tar_stream`. This module
is in every bundle (see `images.unbundle`).

The wheels of all targets are far below their limits: at most 12,728 files (flashinfer-cubin), 1.7
GB (torch), 15 times the wheel's own size (wcwidth), and 8 MB of a file that is read as a whole
(py-spy's program). The largest published images for CUDA have about 300,000 files in 30 GB.
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
"""Bytes of a metadata document that is read before its distribution is unpacked."""

_RATIO = 100
_SMALL = 100 << 20
"""Unpacked bytes below which the ratio is not checked: a file of zeros is legitimate."""

# -- documents -------------------------------------------------------------------------------------

DOCUMENT = 4 << 20
"""Bytes of a manifest, an index or a config, and of every response that is read as a whole: what
registries must accept (OCI distribution spec, "Pushing Manifests")."""

LIST = 64 << 20
"""Bytes of a file with a long list: index.json of a store, bundle.json, a lock, evidence."""

NOTE = 512 << 20
"""Bytes of the unpacker's own record of a layer: every path, its kind and its mode."""

PAGES = 100
"""Responses of a server that names a next page each time."""

INVENTORY_LINE = 1 << 16
INVENTORY_LINES = 20_000_000

# -- layers ----------------------------------------------------------------------------------------

LAYER_FILES = 500_000
"""Members of a layer; also of all layers of a custom base together, which are kept in memory."""

LAYER_BYTES = 64 << 30
"""Bytes of a layer's tar; also of all layers of a custom base together."""

KEPT = 256 << 20
"""Bytes of a custom base's files whose content is kept in memory for inspection."""

TAR_HEAD = 1 << 20
"""Bytes of a tar member's metadata: pax records, long names, maps of sparse files.
Go's archive/tar, by which container engines read layers, has the same limit."""

TAR_GLOBAL = 100
"""Records of global pax headers, which apply to all following members and stay in memory."""

PATH = 4096
"""Bytes of a member's path and of a link's target: the maximum of Linux (PATH_MAX)."""

DEB_MEMBER = 1 << 30
"""Bytes of a file of a Debian package that is read as a whole."""


def check(name: str, files: int, unpacked: int, packed: int) -> None:
    """Refuse an archive that unpacks to more than software does.

    Args:
        name: the archive, for the message.
        files: number of its files.
        unpacked: bytes of their content.
        packed: bytes of the archive.

    Raises:
        IntegrityError: it exceeds a limit; the message names it.
    """
    check_count(name, files, FILES, "files")
    if unpacked > UNPACKED:
        raise IntegrityError(f"{name}: unpacks to {unpacked} bytes; {UNPACKED} are the limit")
    if unpacked > max(_SMALL, _RATIO * packed):
        raise IntegrityError(
            f"{name}: unpacks to {unpacked} bytes, more than {_RATIO} times its size: a zip bomb"
        )


def check_count(name: str, found: int, most: int, what: str) -> None:
    """Refuse more items than a limit.

    Args:
        name: what has them, for the message.
        found: how many there are, at least.
        most: the limit.
        what: the items, e.g. `files`.

    Raises:
        IntegrityError: there are more.
    """
    if found > most:
        raise IntegrityError(f"{name}: {found} {what}; {most} are the limit")
