"""Reports of images: the JSON document that programs read, and text for people."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from images.build.layer_cache import Filled
from images.commands.report import images
from images.oci.image import Image
from images.oci.referrer import Referrer
from tests.unit.reports import LAYOUT, PLACE, VALUE, layer


def test_document_has_what_programs_read() -> None:
    document = json.loads(json.dumps(images.image_document(VALUE, LAYOUT, [True, False])))
    assert document["target"] == "one"
    assert document["manifest_digest"] == VALUE.manifest_digest
    assert document["config_digest"] == VALUE.config_digest
    assert document["layout"] == "/some where/store"
    assert document["size"] == 2_000_500
    assert (document["env"], document["labels"]) == (VALUE.env, VALUE.labels)
    assert document["layers"][1] == {
        "title": "top",
        "digest": f"sha256:{500:064d}",
        "diff_id": f"sha256:{501:064d}",
        "size": 500,
        "media_type": "t",
        "elsewhere": None,
        "reused": False,
    }
    assert document["complete"] is True


def test_document_of_an_image_that_was_not_built_has_no_reuse() -> None:
    layers = images.image_document(VALUE, LAYOUT)["layers"]
    assert len(layers) == 2
    assert all("reused" not in item for item in layers)


def test_layers_elsewhere_are_reported() -> None:
    elsewhere = {f"sha256:{2_000_000:064d}": PLACE, "sha256:another image's": PLACE}
    document = images.image_document(VALUE, LAYOUT, [True, False], elsewhere)
    assert document["complete"] is False
    assert [item["elsewhere"] for item in document["layers"]] == [str(PLACE), None]
    filled = Filled(PLACE, 1, 500)
    text = images.build_summary(VALUE, [True, False], {}, LAYOUT, elsewhere, filled)
    rows = [line.split() for line in text.splitlines()]
    assert ["layers", "made", "1", "500", "B"] in rows
    assert ["layers", "reused", "0", "0", "B"] in rows
    assert ["layers", "not", "fetched", "1", "2", "MB"] in rows
    assert ["cache", "1", "new", "records", "500", "B", "sent"] in rows
    for shown in (text, images.inspection(VALUE, LAYOUT, elsewhere)):
        assert "incomplete: 1 layers are only in localhost:5000/roll/cache" in shown
        assert "python build.py pull --target one" in shown


def test_complete_image_has_no_warning() -> None:
    assert "incomplete" not in images.build_summary(VALUE, [True, False], {}, LAYOUT, {})
    assert "incomplete" not in images.inspection(VALUE, LAYOUT, {})


def test_summary_has_layers_made_and_reused_and_seconds() -> None:
    lines = images.build_summary(VALUE, [True, False], {"fetch": 1.234, "total": 2.0}, LAYOUT)
    rows = [line.split() for line in lines.splitlines()]
    assert ["layers", "made", "1", "500", "B"] in rows
    assert ["layers", "reused", "1", "2", "MB"] in rows
    assert ["image", "2", "layers", "2", "MB"] in rows
    assert ["fetch", "1.23", "s"] in rows
    assert lines.endswith("oci:/some where/store:one")
    assert VALUE.manifest_digest in lines


def test_summary_needs_the_reuse_of_every_layer() -> None:
    with pytest.raises(ValueError, match="zip"):
        images.build_summary(VALUE, [True], {}, LAYOUT)


def test_inspection_shows_environment_labels_and_layers() -> None:
    text = images.inspection(VALUE, LAYOUT)
    for part in (VALUE.manifest_digest, VALUE.config_digest, "roll.target", "A", "base", "2 MB"):
        assert part in text
    assert "other" not in text


def test_inspection_shows_attached_documents() -> None:
    beside = Referrer("application/vnd.cyclonedx+json", "x", b"12345", VALUE.descriptor, {})
    lines = images.inspection(VALUE, LAYOUT, attached=[beside]).splitlines()
    assert lines[-2] == "attached"
    assert lines[-1].split() == [beside.artifact_type, "5", "B", beside.digest[7:19]]


def test_inspection_of_an_image_without_anything_works() -> None:
    assert "0 layers" in images.inspection(Image("one", (), {}, {}, "t"), LAYOUT)


HOSTILE = "\x1b[2J\x9b31mall is well\r"


def test_nothing_of_an_image_reaches_the_terminal_as_a_command() -> None:
    """Names, labels, environment and titles are chosen by the maker of the image."""
    image = replace(
        VALUE,
        ref=f"ref{HOSTILE}\nsecond line",
        layers=(layer(f"title{HOSTILE}", 5),),
        env={f"N{HOSTILE}": f"V{HOSTILE}"},
        labels={f"roll.{HOSTILE}": HOSTILE},
    )
    shown = images.inspection(image, LAYOUT)
    assert not set("\x1b\x9b\r") & set(shown)
    assert shown.count("\\x1b[2J") == 7
    assert "\nsecond line" not in shown
    document = json.dumps(images.image_document(image, LAYOUT))
    assert "\x1b" not in document
    assert json.loads(document)["target"] == image.ref
