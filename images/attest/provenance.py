"""The provenance of an image: its inputs, its builder and the time.

Specification: in-toto Attestation Framework, Statement v1; SLSA 1.0, "Provenance"
(https://slsa.dev/provenance/v1). All that differs between builds (times, builder, layers that
existed already) is here alone, in no image and no SBOM. Each image has its own, so it is small: it
names the locks, each by its SHA-256, and a lock names every file by its own. It names the SBOM as
well. The statement is not signed: that is up to whoever runs the build, see docs/supply-chain.md.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from images import format_numbers
from images.attest import package_urls, revision
from images.attest.materials import Materials
from images.attest.revision import CiRun
from images.content import changed_wheels, runtime_wheel
from images.content.kernels import kernel_inputs
from images.oci.image import Image
from images.oci.referrer import Referrer

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
BUILD_TYPE = f"urn:roll-sglang-images:build:{format_numbers.PROVENANCE}"
"""Names the meaning of the parameters, as docs/supply-chain.md describes it."""

LOCAL_BUILDER = "urn:roll-sglang-images:builder:local"
"""Builder id outside CI: a local machine, not verifiable."""


@dataclass(frozen=True, slots=True)
class Build:
    """One run of the builder, for one image.

    Attributes:
        root: the checkout that it ran from.
        files: the files that it read there: the matrix and the locks, which name every input.
        parameters: the user's choices.
        started, finished: with time zone.
        made: layers that it made itself.
        reused: layers that existed before, in the store or in a shared cache.
        env: its environment variables, for those of a CI.
        cached: how many of the reused layers are from a shared cache, by its name.
    """

    root: Path
    files: Sequence[Path]
    parameters: Mapping[str, str]
    started: datetime
    finished: datetime
    made: int
    reused: int
    env: Mapping[str, str]
    cached: Mapping[str, int] = field(default_factory=dict)


def statement(image: Image, made_from: Materials, build: Build, sbom: Referrer) -> bytes:
    """Return the provenance of an image, as an in-toto statement in JSON.

    Args:
        image: the image.
        made_from: its locks.
        build: the run that made it.
        sbom: the image's SBOM.
    """
    run = revision.ci_run(build.env)
    document = {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": str(package_urls.of_image(image)), "digest": _digest(image)}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": dict(build.parameters),
                "internalParameters": {
                    **({"runner": run.hosted} if run else {}),
                    **changed_wheels.parameters(made_from.lock),
                    **kernel_inputs.parameters(made_from.kernels),
                },
                "resolvedDependencies": [
                    *_source(build, run),
                    *(_file(path, build.root) for path in build.files),
                    _runtime(),
                    *_custom_base(made_from),
                ],
            },
            "runDetails": {
                "builder": {"id": run.workflow if run else LOCAL_BUILDER},
                "metadata": {
                    "invocationId": run.attempt if run else uuid.uuid4().urn,
                    "startedOn": _time(build.started),
                    "finishedOn": _time(build.finished),
                    # An extension: layers that the store had were made by other runs, and those of
                    # a shared cache by anyone who may write there.
                    "roll_layers": {
                        "made": build.made,
                        "reused": build.reused,
                        **({"from_shared_cache": dict(build.cached)} if build.cached else {}),
                    },
                },
                "byproducts": [_sbom(sbom)],
            },
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _digest(image: Image) -> dict[str, str]:
    return {"sha256": image.manifest_digest.removeprefix("sha256:")}


def _source(build: Build, run: CiRun | None) -> list[dict[str, Any]]:
    """Return the commit; its address only in CI, since a user's remote may be private."""
    found = revision.of(build.root)
    if found is None:
        return []
    described: dict[str, Any] = {"name": "source", "digest": {"gitCommit": found.commit}}
    if run:
        described["uri"] = f"git+{run.repository}@{run.ref}"
    if found.modified:
        described["annotations"] = {"modified": True}
    return [described]


def _file(path: Path, root: Path) -> dict[str, Any]:
    inside = path.resolve().is_relative_to(root.resolve())
    name = path.resolve().relative_to(root.resolve()).as_posix() if inside else path.name
    return {"name": name, "digest": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}


def _runtime() -> dict[str, Any]:
    """Return the sources of `roll_runtime`. Their hash covers many files, so it is no `digest`."""
    return {
        "name": "roll_runtime",
        "uri": str(package_urls.of_runtime()),
        "annotations": {"sourceSha256": runtime_wheel.source_digest()},
    }


def _custom_base(made_from: Materials) -> list[dict[str, Any]]:
    if not made_from.custom_base:
        return []
    purl = package_urls.of_custom_base(made_from.custom_base, made_from.base_repository)
    digest = {"sha256": made_from.custom_base.removeprefix("sha256:")}
    return [{"name": purl.name, "uri": str(purl), "digest": digest}]


def _sbom(item: Referrer) -> dict[str, Any]:
    digest = {"sha256": hashlib.sha256(item.content).hexdigest()}
    return {"name": item.title, "mediaType": item.artifact_type, "digest": digest}


def _time(value: datetime) -> str:
    """RFC 3339 in UTC."""
    return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
