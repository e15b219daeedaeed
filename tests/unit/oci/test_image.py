"""Images: documents as the OCI specification has them, the same bytes for the same values."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.oci import image
from images.oci.descriptor import Blob
from images.oci.image import Image, Layer


def blob(number: int) -> Blob:
    return Blob(
        f"sha256:{number:064d}",
        f"sha256:{number + 500:064d}",
        number + 10,
        0,
        "application/vnd.oci.image.layer.v1.tar+zstd",
    )


VALUE = Image(
    "torch280-sglang052",
    (Layer("base", blob(1)), Layer("tôp", blob(2))),
    {"PATH": "/bin", "EQUALS": "a=b=c", "EMPTY": ""},
    {"roll.target": "torch280-sglang052", "note": "ü"},
    "2025-09-16T00:00:00Z",
)


def test_documents_have_the_digests_that_are_in_registries() -> None:
    assert (VALUE.config_digest, VALUE.manifest_digest) == (
        "sha256:4ec68e8fba5767eb67c52052923f42f22987db4e9c3afd2d166414ae62a25b6f",
        "sha256:996bc2523a81526a62e121f2ba848b8a32c1dffd088b82fc9f1a7d1498aa6454",
    )


def test_config_is_what_the_specification_requires() -> None:
    config = json.loads(VALUE.config)
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    assert config["rootfs"] == {"type": "layers", "diff_ids": [blob(1).diff_id, blob(2).diff_id]}
    assert config["config"]["Env"] == ["PATH=/bin", "EQUALS=a=b=c", "EMPTY="]
    assert config["config"]["Labels"] == VALUE.labels
    assert len(config["history"]) == 2
    assert config["created"] == VALUE.created
    assert "Entrypoint" not in config["config"]


def test_manifest_is_what_the_specification_requires() -> None:
    manifest = json.loads(VALUE.manifest)
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["config"] == {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": "sha256:" + hashlib.sha256(VALUE.config).hexdigest(),
        "size": len(VALUE.config),
    }
    assert [layer["digest"] for layer in manifest["layers"]] == [blob(1).digest, blob(2).digest]
    assert [layer["size"] for layer in manifest["layers"]] == [11, 12]
    assert manifest["annotations"] == VALUE.labels


def test_order_of_labels_does_not_show_and_order_of_layers_does() -> None:
    reordered = dataclasses.replace(VALUE, labels=dict(reversed(list(VALUE.labels.items()))))
    assert reordered.manifest == VALUE.manifest
    swapped = dataclasses.replace(VALUE, layers=VALUE.layers[::-1])
    assert swapped.manifest_digest != VALUE.manifest_digest
    assert swapped.config_digest != VALUE.config_digest


@pytest.mark.parametrize(
    "change",
    [{"env": {"PATH": "/usr/bin"}}, {"labels": {}}, {"created": "2025-09-17T00:00:00Z"},
     {"layers": VALUE.layers[:1]}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_value_shows(change: dict[str, Any]) -> None:
    assert dataclasses.replace(VALUE, **change).manifest_digest != VALUE.manifest_digest


def test_name_in_the_store_is_no_part_of_the_image() -> None:
    assert dataclasses.replace(VALUE, ref="other").manifest_digest == VALUE.manifest_digest


def test_size_is_that_of_the_compressed_layers() -> None:
    assert VALUE.size == 23


names = st.text(st.characters(codec="utf-8", exclude_characters="="), min_size=1)


@given(
    env=st.dictionaries(names, st.text(st.characters(codec="utf-8"))),
    labels=st.dictionaries(names, st.text(st.characters(codec="utf-8"))),
    titles=st.lists(st.text(st.characters(codec="utf-8")), max_size=4),
)
def test_what_was_written_is_read_back(
    env: dict[str, str], labels: dict[str, str], titles: list[str]
) -> None:
    layers = tuple(Layer(title, blob(number)) for number, title in enumerate(titles))
    value = Image("ref", layers, env, labels, "2025-01-01T00:00:00Z")
    assert image.parse("ref", value.manifest, value.config) == value


def test_history_of_a_custom_base_comes_first_and_its_layers_have_no_titles() -> None:
    inherited = ({"created_by": "FROM x"}, {"created_by": "ENV", "empty_layer": True})
    layers = (Layer("", blob(1)), Layer("ours", blob(2)))
    value = dataclasses.replace(VALUE, layers=layers, inherited=inherited)
    history = json.loads(value.config)["history"]
    assert history == [*inherited, {"created": VALUE.created, "created_by": "ours"}]
    first, second = json.loads(value.manifest)["layers"]
    assert "annotations" not in first
    assert second["annotations"] == {"org.opencontainers.image.title": "ours"}
    assert image.parse(value.ref, value.manifest, value.config) == value


def test_known_unpacked_sizes_are_kept() -> None:
    found = image.parse("ref", VALUE.manifest, VALUE.config, [7, 8])
    assert [layer.blob.unpacked for layer in found.layers] == [7, 8]


def test_documents_of_other_tools_may_leave_out_or_empty_what_is_optional() -> None:
    manifest, config = json.loads(VALUE.manifest), json.loads(VALUE.config)
    for layer in manifest["layers"]:
        layer["annotations"] = None
    config["config"] = {"Env": None, "Labels": None}
    found = image.parse("ref", json.dumps(manifest).encode(), json.dumps(config).encode())
    assert (found.env, found.labels) == ({}, {})
    assert [layer.title for layer in found.layers] == ["", ""]


@pytest.mark.parametrize("entry", ["text", 5, None, [], {"created_by": "\ud800"}])
def test_malformed_history_is_refused(entry: object) -> None:
    config = {**json.loads(VALUE.config), "history": [entry] * 3}
    with pytest.raises((TypeError, ValueError)):
        image.parse("ref", VALUE.manifest, json.dumps(config).encode())


def test_documents_that_do_not_belong_together_are_refused() -> None:
    other = dataclasses.replace(VALUE, layers=VALUE.layers[:1])
    with pytest.raises(ValueError, match="zip"):
        image.parse("ref", VALUE.manifest, other.config)
