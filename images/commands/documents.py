"""`sbom` and `provenance`: what is said about an image."""

from __future__ import annotations

import argparse

from images.commands.selection import image_of
from images.util import output


def sbom(options: argparse.Namespace) -> int:
    """Write an image's bill of materials (CycloneDX)."""
    from images.attest import attach

    return _write_document(options, attach.SBOM)


def provenance(options: argparse.Namespace) -> int:
    """Write how an image was made (SLSA provenance, not signed)."""
    from images.attest import attach

    return _write_document(options, attach.PROVENANCE)


def _write_document(options: argparse.Namespace, artifact_type: str) -> int:
    from images.attest import attach
    from images.oci.store import store

    source = store.open_store(options.store, create=False)
    content = attach.find(source, image_of(options, source, options.target), artifact_type)
    output.content(content, options.out)
    return 0
