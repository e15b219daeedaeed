"""Reports: the JSON document that programs read, and tables that people do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from images import report
from images.image import Image, Layer
from images.layer import Blob

LAYOUT = Path("/some where/store")


def layer(title: str, size: int) -> Layer:
    return Layer(title, Blob(f"sha256:{size:064d}", f"sha256:{size + 1:064d}", size, 2 * size, "t"))


VALUE = Image(
    "one",
    (layer("base", 2_000_000), layer("top", 500)),
    {"A": "1"},
    {"roll.target": "one", "other": "x"},
    "2025-01-01T00:00:00Z",
)


def test_document_tells_all_that_a_program_asks_for() -> None:
    document = json.loads(json.dumps(report.image_document(VALUE, LAYOUT, [True, False])))
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
        "reused": False,
    }


def test_document_of_an_image_that_was_not_built_tells_nothing_of_reuse() -> None:
    layers = report.image_document(VALUE, LAYOUT)["layers"]
    assert len(layers) == 2
    assert all("reused" not in item for item in layers)


def test_summary_tells_what_was_made_and_reused_and_how_long_it_took() -> None:
    lines = report.build_summary(VALUE, [True, False], {"fetch": 1.234, "total": 2.0}, LAYOUT)
    rows = [line.split() for line in lines.splitlines()]
    assert ["layers", "made", "1", "500", "B"] in rows
    assert ["layers", "reused", "1", "2", "MB"] in rows
    assert ["image", "2", "layers", "2", "MB"] in rows
    assert ["fetch", "1.23", "s"] in rows
    assert lines.endswith("oci:/some where/store:one")
    assert VALUE.manifest_digest in lines


def test_summary_needs_a_word_on_every_layer() -> None:
    with pytest.raises(ValueError, match="zip"):
        report.build_summary(VALUE, [True], {}, LAYOUT)


def test_inspection_shows_environment_labels_and_layers() -> None:
    text = report.inspection(VALUE, LAYOUT)
    for part in (VALUE.manifest_digest, VALUE.config_digest, "roll.target", "A", "base", "2 MB"):
        assert part in text
    assert "other" not in text


def test_inspection_of_an_image_without_anything_works() -> None:
    assert "0 layers" in report.inspection(Image("one", (), {}, {}, "t"), LAYOUT)


def test_columns_are_aligned_and_lines_end_without_blanks() -> None:
    text = report.table([("a", "bb", ""), ("aaa", "b", "c")], indent=1)
    assert text.splitlines() == [" a    bb", " aaa  b   c"]
    assert report.table([]) == ""
