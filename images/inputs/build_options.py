"""The options of a fetch and of a build, made once from the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from images.oci.descriptor import Compression

if TYPE_CHECKING:
    from images.oci.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How locked files and custom bases are fetched.

    Attributes:
        cache: the download cache.
        matrix: the matrix file, from which the relative directory of a custom base starts.
        jobs: files to hash, or layers to make, at a time.
        mirror: what the user set as the Debian mirror, if anything.
        plain_http: talk to registries without TLS.
        offline: the command that fetches what the cache lacks, when no network may be used; "" when
            one may.
    """

    cache: Path
    matrix: Path
    jobs: int
    mirror: str | None = None
    plain_http: bool = False
    offline: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions(FetchOptions):
    """How images are built.

    Attributes:
        store: where layers and images are kept.
        compression: of the layers.
        only_known: make no layer.
    """

    store: Store
    compression: Compression = "zstd"
    only_known: bool = False
