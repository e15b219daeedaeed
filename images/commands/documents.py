"""`sbom` and `provenance`: what is said about an image."""

from __future__ import annotations

import argparse

from images import output
from images.commands.common import image_of


def sbom(options: argparse.Namespace) -> int:
    """Write an image's bill of materials (CycloneDX)."""
    from images import attest

    return _write_document(options, attest.SBOM)


def provenance(options: argparse.Namespace) -> int:
    """Write how an image was made (SLSA provenance, not signed)."""
    from images import attest

    return _write_document(options, attest.PROVENANCE)


def _write_document(options: argparse.Namespace, artifact_type: str) -> int:
    from images import attest, store

    source = store.open_store(options.store, create=False)
    content = attest.find(source, image_of(options, source, options.target), artifact_type)
    output.content(content, options.out)
    return 0
