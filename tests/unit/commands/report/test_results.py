"""Reports: the JSON document that programs read, and tables that people do."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from images.build.layer_cache import Filled
from images.commands.report import results
from images.export.push.push import Pushed
from images.export.push.transfer import PushedBlob, State
from images.oci.descriptor import Blob
from images.oci.image import Image, Layer
from images.oci.reference import Repository
from images.oci.referrer import Referrer
from images.oci.registry.referrers import Attached
from images.oci.store.remote_layers import Place, Remote
from tests.unit import bundles

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
    document = json.loads(json.dumps(results.image_document(VALUE, LAYOUT, [True, False])))
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


def test_document_of_an_image_that_was_not_built_tells_nothing_of_reuse() -> None:
    layers = results.image_document(VALUE, LAYOUT)["layers"]
    assert len(layers) == 2
    assert all("reused" not in item for item in layers)


PLACE = Place(Repository("localhost:5000", "roll/cache"), plain_http=True)


def test_layers_elsewhere_are_told_to_programs_and_people() -> None:
    elsewhere = {f"sha256:{2_000_000:064d}": PLACE, "sha256:another image's": PLACE}
    document = results.image_document(VALUE, LAYOUT, [True, False], elsewhere)
    assert document["complete"] is False
    assert [item["elsewhere"] for item in document["layers"]] == [str(PLACE), None]
    filled = Filled(PLACE, 1, 500)
    text = results.build_summary(VALUE, [True, False], {}, LAYOUT, elsewhere, filled)
    rows = [line.split() for line in text.splitlines()]
    assert ["layers", "made", "1", "500", "B"] in rows
    assert ["layers", "reused", "0", "0", "B"] in rows
    assert ["layers", "elsewhere", "1", "2", "MB"] in rows
    assert ["cache", "1", "new", "records", "500", "B", "sent"] in rows
    for told in (text, results.inspection(VALUE, LAYOUT, elsewhere)):
        assert "not whole: 1 layers lie in localhost:5000/roll/cache" in told
        assert "python build.py pull --target one" in told


def test_whole_image_has_no_word_of_elsewhere() -> None:
    assert "whole" not in results.build_summary(VALUE, [True, False], {}, LAYOUT, {})
    assert "whole" not in results.inspection(VALUE, LAYOUT, {})


def test_pull_tells_what_came() -> None:
    fetched = [Remote("a" * 64, VALUE.layers[0].blob, PLACE)]
    document = results.pull_document(VALUE, LAYOUT, fetched)
    assert (document["target"], document["bytes"]) == ("one", 2_000_000)
    assert document["fetched"] == [VALUE.layers[0].blob.digest]
    assert "fetched 1 layers, 2 MB" in results.pull_summary(VALUE, LAYOUT, fetched)
    assert "nothing lies elsewhere" in results.pull_summary(VALUE, LAYOUT, [])


def test_summary_tells_what_was_made_and_reused_and_how_long_it_took() -> None:
    lines = results.build_summary(VALUE, [True, False], {"fetch": 1.234, "total": 2.0}, LAYOUT)
    rows = [line.split() for line in lines.splitlines()]
    assert ["layers", "made", "1", "500", "B"] in rows
    assert ["layers", "reused", "1", "2", "MB"] in rows
    assert ["image", "2", "layers", "2", "MB"] in rows
    assert ["fetch", "1.23", "s"] in rows
    assert lines.endswith("oci:/some where/store:one")
    assert VALUE.manifest_digest in lines


def test_summary_needs_a_word_on_every_layer() -> None:
    with pytest.raises(ValueError, match="zip"):
        results.build_summary(VALUE, [True], {}, LAYOUT)


def test_inspection_shows_environment_labels_and_layers() -> None:
    text = results.inspection(VALUE, LAYOUT)
    for part in (VALUE.manifest_digest, VALUE.config_digest, "roll.target", "A", "base", "2 MB"):
        assert part in text
    assert "other" not in text


def test_inspection_shows_what_lies_beside_the_image() -> None:
    beside = Referrer("application/vnd.cyclonedx+json", "x", b"12345", VALUE.descriptor, {})
    lines = results.inspection(VALUE, LAYOUT, attached=[beside]).splitlines()
    assert lines[-2] == "about it"
    assert lines[-1].split() == [beside.artifact_type, "5", "B", beside.digest[7:19]]


def test_inspection_of_an_image_without_anything_works() -> None:
    assert "0 layers" in results.inspection(Image("one", (), {}, {}, "t"), LAYOUT)


def test_columns_are_aligned_and_lines_end_without_blanks() -> None:
    text = results.table([("a", "bb", ""), ("aaa", "b", "c")], indent=1)
    assert text.splitlines() == [" a    bb", " aaa  b   c"]
    assert results.table([]) == ""


def test_push_as_a_document_and_as_text() -> None:
    image = VALUE
    digests = ["sha256:" + letter * 64 for letter in "abc"]
    states: tuple[State, ...] = ("sent", "mounted", "present")
    blobs = tuple(
        PushedBlob(digest, 1000 * number, state)
        for number, (digest, state) in enumerate(zip(digests, states, strict=True), 1)
    )
    repository = Repository("host.example:5000", "team/app")
    attached = Attached("application/vnd.cyclonedx+json", digests[2], "sent")
    pushed = Pushed(
        "t", repository, "v1", image.manifest_digest, blobs, 1234, attached=(attached,),
        notes=("something was odd",),
    )  # fmt: skip
    reference = f"host.example:5000/team/app@{image.manifest_digest}"
    assert results.push_document(pushed) == {
        "target": "t",
        "reference": reference,
        "tag": "v1",
        "manifest_digest": image.manifest_digest,
        "before": None,
        "blobs": [
            {"digest": digests[0], "size": 1000, "state": "sent"},
            {"digest": digests[1], "size": 2000, "state": "mounted"},
            {"digest": digests[2], "size": 3000, "state": "present"},
        ],
        "attached": [
            {"artifact_type": attached.artifact_type, "digest": digests[2], "state": "sent"}
        ],
        "bytes_sent": 1234,
        "notes": ["something was odd"],
    }
    text = results.push_summary(pushed, {"push": 1.5})
    lines = text.splitlines()
    assert lines[0] == "t -> host.example:5000/team/app:v1"
    assert lines[-1].strip() == reference
    for part in ("1 kB", "2 kB", "3 kB", "1.23 kB", "1.50 s", "vnd.cyclonedx+json"):
        assert part in text
    same = replace(pushed, before=image.manifest_digest, attached=())
    told = results.push_summary(same, {})
    assert "(unchanged)" in told
    assert "moved" not in told
    assert ["attached", "nothing"] in [line.split() for line in told.splitlines()]
    moved = results.push_summary(replace(pushed, before=digests[0]), {})
    assert f"(moved; it named {digests[0]})" in moved


HOSTILE = "\x1b[2J\x9b31mall is well\r"


def test_nothing_of_an_image_reaches_the_terminal_as_a_command() -> None:
    """Names, labels, environment and titles are whoever made the image's."""
    image = replace(
        VALUE,
        ref=f"ref{HOSTILE}\nsecond line",
        layers=(layer(f"title{HOSTILE}", 5),),
        env={f"N{HOSTILE}": f"V{HOSTILE}"},
        labels={f"roll.{HOSTILE}": HOSTILE},
    )
    shown = results.inspection(image, LAYOUT)
    assert not set("\x1b\x9b\r") & set(shown)
    assert shown.count("\\x1b[2J") == 7
    assert "\nsecond line" not in shown
    document = json.dumps(results.image_document(image, LAYOUT))
    assert "\x1b" not in document
    assert json.loads(document)["target"] == image.ref


def test_bundle_prints_the_command_that_believes_nothing_of_it(tmp_path: Path) -> None:
    source, image = bundles.three_layers(tmp_path / "store")
    made = bundles.make(source, image, tmp_path / "out")
    lines = results.bundle_summary(made).splitlines()[-2:]
    root = tmp_path / "root"
    command = " ".join(line.strip() for line in lines)
    assert command == results.bundle_document(made)["unpack"]
    assert f"--digest {image.manifest_digest}" in command
    typed = command.replace("DIR", str(root))
    done = subprocess.run(["sh", "-c", typed], cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (root / "etc/version").read_bytes() == b"new\n"
    with (tmp_path / "out" / "unpack.py").open("ab") as program:
        program.write(b"x")
    done = subprocess.run(["sh", "-c", typed], cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.returncode == 1
    assert "unpack.py: FAILED" in done.stdout
