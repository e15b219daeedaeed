"""`build.py push` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from images.errors import UsageError
from images.oci.store.store import Store
from tests.integration.conftest import MATRIX, TARGET, Cli
from tests.integration.push.conftest import Make, digest_in


def test_json_and_summary(layout: Store, make: Make, server: str) -> None:
    image = make()
    to = [f"{server}/team/app", "--plain-http"]
    cli = Cli(layout.path)
    first = cli.run("push", "--target", TARGET, "--to", *to, "--json")
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert set(document) == {
        "target", "reference", "tag", "manifest_digest", "before", "blobs", "attached",
        "bytes_sent", "notes",
    }  # fmt: skip
    assert document["attached"] == []
    assert document["target"] == document["tag"] == TARGET
    assert document["reference"] == f"{server}/team/app@{image.manifest_digest}"
    wanted = [(item.blob.digest, item.blob.size, "sent") for item in image.layers]
    wanted.append((image.config_digest, len(image.config), "sent"))
    assert [(b["digest"], b["size"], b["state"]) for b in document["blobs"]] == wanted
    second = cli.run("push", "--target", TARGET, "--to", *to)
    assert second.returncode == 0, second.stderr
    assert "(unchanged)" in second.stdout
    assert document["reference"] in second.stdout
    assert second.stderr == ""
    assert digest_in(server, f"team/app:{TARGET}") == image.manifest_digest


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("roll-sglang", "names no registry"),
        ("team/app:v1", "names no registry"),
        ("https://registry.example.com/app", "no scheme"),
    ],
)
def test_a_registry_must_be_named(layout: Store, make: Make, to: str, message: str) -> None:
    make()
    done = Cli(layout.path).run("push", "--target", TARGET, "--to", to)
    assert done.returncode == UsageError.exit_code
    assert message in done.stderr


def test_image_that_was_not_built(layout: Store, tmp_path: Path) -> None:
    done = Cli(layout.path).run("push", "--all", "--to", "localhost:1/app")
    assert done.returncode == UsageError.exit_code
    assert "holds no image" in done.stderr
    assert MATRIX.is_file()
