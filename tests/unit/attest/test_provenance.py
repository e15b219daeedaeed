"""The provenance: an in-toto statement of inputs, builder and time, and no more."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from images.attest import attach, provenance, sbom
from images.attest.provenance import Build
from images.content import runtime_wheel
from images.content.kernels.kernel_inputs import Kernels
from images.oci.image import Image
from images.oci.referrer import Referrer
from images.oci.store.store import open_store
from tests.unit.attestations import MATERIALS, build_of, image_in, sha256

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.example.com",
    "GITHUB_REPOSITORY": "team/images",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_WORKFLOW_REF": "team/images/.github/workflows/release.yml@refs/heads/main",
    "GITHUB_RUN_ID": "42",
    "GITHUB_RUN_ATTEMPT": "2",
    "RUNNER_ENVIRONMENT": "github-hosted",
}

SBOM = Referrer(attach.SBOM, "one.cdx.json", b"an SBOM", {}, {})


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return image_in(open_store(tmp_path / "store"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git repository with one commit, whose remote has a password."""
    root = tmp_path / "checkout"
    root.mkdir()
    build_of(root)
    (root / "tracked.txt").touch()
    git(root, "init", "--quiet")
    git(root, "remote", "add", "origin", "https://user:s3cr3t@git.example.com/x")
    commit(root)
    return root


def git(root: Path, *arguments: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(root), *author, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "one")


def statement(image: Image, build: Build) -> dict[str, Any]:
    made = provenance.statement(image, MATERIALS, build, SBOM)
    document: dict[str, Any] = json.loads(made)
    return document


def definition(image: Image, build: Build) -> dict[str, Any]:
    found: dict[str, Any] = statement(image, build)["predicate"]["buildDefinition"]
    return found


def details(image: Image, build: Build) -> dict[str, Any]:
    found: dict[str, Any] = statement(image, build)["predicate"]["runDetails"]
    return found


def source(image: Image, build: Build) -> list[dict[str, Any]]:
    resolved = definition(image, build)["resolvedDependencies"]
    return [item for item in resolved if item["name"] == "source"]


def test_it_is_a_statement_about_the_image(image: Image, tmp_path: Path) -> None:
    found = statement(image, build_of(tmp_path))
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    (subject,) = found["subject"]
    assert subject["digest"] == {"sha256": image.manifest_digest.removeprefix("sha256:")}


def test_all_that_went_in_is_named_by_its_hash(image: Image, tmp_path: Path) -> None:
    """A lock names every file by its own hash: here it is enough to name the lock by its."""
    resolved = definition(image, build_of(tmp_path))["resolvedDependencies"]
    assert resolved == [
        {"name": "images/locks/one.txt", "digest": {"sha256": sha256("a lock\n")}},
        {
            "name": "roll_runtime",
            "uri": f"pkg:generic/roll-runtime@{runtime_wheel.version()}",
            "annotations": {"sourceSha256": runtime_wheel.source_digest()},
        },
    ]


def test_sbom_is_named_by_its_hash(image: Image, tmp_path: Path) -> None:
    (found,) = statement(image, build_of(tmp_path))["predicate"]["runDetails"]["byproducts"]
    assert found == {
        "name": "one.cdx.json",
        "mediaType": "application/vnd.cyclonedx+json",
        "digest": {"sha256": sha256("an SBOM")},
    }


def test_parameters_are_what_a_person_chose(image: Image, tmp_path: Path) -> None:
    found = definition(image, build_of(tmp_path))
    assert found["externalParameters"] == {"target": "one", "compression": "zstd"}
    assert found["internalParameters"] == {}


def test_kernels_are_listed_with_their_architectures(image: Image, tmp_path: Path) -> None:
    kernels = Kernels(("norm",), ("8.0", "9.0a"), (("9.0", ("dense",)),))
    materials = replace(MATERIALS, kernels=kernels)
    made = json.loads(provenance.statement(image, materials, build_of(tmp_path), SBOM))
    assert made["predicate"]["buildDefinition"]["internalParameters"] == {
        "kernels": {"norm": ["8.0", "9.0a"], "sglang-dense": ["9.0"]}
    }


def test_local_build_has_the_local_builder_id(image: Image, tmp_path: Path) -> None:
    first, second = (details(image, build_of(tmp_path)) for _ in range(2))
    assert first["builder"] == {"id": provenance.LOCAL_BUILDER}
    assert first["metadata"]["startedOn"] == "2026-11-24T08:00:00Z"
    assert first["metadata"]["finishedOn"] == "2026-11-24T08:02:09Z"
    assert first["metadata"]["roll_layers"] == {"made": 1, "reused": 70}
    assert first["metadata"]["invocationId"] != second["metadata"]["invocationId"]


def test_times_are_in_utc(image: Image, tmp_path: Path) -> None:
    build = build_of(tmp_path)
    east = build.started.astimezone(timezone(timedelta(hours=14)))
    found = details(image, replace(build, started=east))
    assert found["metadata"]["startedOn"] == "2026-11-24T08:00:00Z"


def test_github_s_run_is_the_builder(image: Image, checkout: Path) -> None:
    build = build_of(checkout, **GITHUB)
    found = details(image, build)
    server = GITHUB["GITHUB_SERVER_URL"]
    assert found["builder"]["id"] == f"{server}/{GITHUB['GITHUB_WORKFLOW_REF']}"
    run = f"{server}/team/images/actions/runs/42/attempts/2"
    assert found["metadata"]["invocationId"] == run
    assert definition(image, build)["internalParameters"] == {"runner": "github-hosted"}
    (entry,) = source(image, build)
    assert entry["uri"] == f"git+{server}/team/images@refs/heads/main"


@pytest.mark.parametrize("lacking", sorted(GITHUB))
def test_half_a_ci_is_none(image: Image, tmp_path: Path, lacking: str) -> None:
    env = {name: value for name, value in GITHUB.items() if name != lacking}
    found = details(image, build_of(tmp_path, **env))
    assert found["builder"] == {"id": provenance.LOCAL_BUILDER}


def test_commit_is_that_of_the_checkout(image: Image, checkout: Path) -> None:
    (entry,) = source(image, build_of(checkout))
    head = git(checkout, "rev-parse", "HEAD")
    assert entry == {"name": "source", "digest": {"gitCommit": head}}


@pytest.mark.parametrize("change", ["tracked.txt", "new.txt"])
def test_files_that_differ_from_the_commit_are_reported(
    image: Image, checkout: Path, change: str
) -> None:
    (checkout / change).write_text("not in the commit")
    (entry,) = source(image, build_of(checkout))
    assert entry["annotations"] == {"modified": True}


def test_no_commit_is_claimed_without_one(
    image: Image, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert source(image, build_of(tmp_path / "no git")) == []
    inside = checkout / "an unpacked release"
    assert source(image, build_of(inside)) == [], "the repository around it is another's"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source(image, build_of(checkout)) == []


def test_no_document_holds_a_credential(
    image: Image, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "https://user:s3cr3t@index.example.com/simple"
    names = ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL", "ROLL_IMAGES_DEBIAN_MIRROR")
    env = dict.fromkeys(names, secret)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    build = build_of(checkout, **GITHUB, **env, GITHUB_TOKEN="s3cr3t")
    documents = provenance.statement(image, MATERIALS, build, SBOM)
    documents += sbom.document(image, MATERIALS)
    assert b"s3cr3t" not in documents
    assert b"example.com/simple" not in documents


def test_custom_base_is_among_what_went_in(image: Image, tmp_path: Path) -> None:
    own = dataclasses.replace(MATERIALS, base=(), custom_base=f"sha256:{'b' * 64}")
    document = json.loads(provenance.statement(image, own, build_of(tmp_path), SBOM))
    resolved = document["predicate"]["buildDefinition"]["resolvedDependencies"]
    (found,) = [item for item in resolved if item["name"] == "base"]
    assert found["digest"] == {"sha256": "b" * 64}
    assert found["uri"].startswith("pkg:oci/base@sha256")


def test_layers_of_a_shared_cache_are_counted_by_its_address(image: Image, tmp_path: Path) -> None:
    run = replace(build_of(tmp_path), cached={"registry.example.com/team/cache": 3})
    document = json.loads(provenance.statement(image, MATERIALS, run, SBOM))
    layers = document["predicate"]["runDetails"]["metadata"]["roll_layers"]
    assert layers["from_shared_cache"] == {"registry.example.com/team/cache": 3}
