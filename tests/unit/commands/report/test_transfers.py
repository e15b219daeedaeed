"""Reports of bundles, pushes and pulls: the document that programs read, and text for people."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from images.commands.report import transfers
from images.export.push.push import Pushed
from images.export.push.transfer import PushedBlob, State
from images.oci.reference import Repository
from images.oci.registry.referrers import Attached
from images.oci.store.remote_layers import RemoteLayer
from tests.unit import bundles
from tests.unit.reports import LAYOUT, PLACE, VALUE


def test_pull_reports_what_was_fetched() -> None:
    fetched = [RemoteLayer("a" * 64, VALUE.layers[0].blob, PLACE)]
    document = transfers.pull_document(VALUE, LAYOUT, fetched)
    assert (document["target"], document["bytes"]) == ("one", 2_000_000)
    assert document["fetched"] == [VALUE.layers[0].blob.digest]
    assert "fetched 1 layers, 2 MB" in transfers.pull_summary(VALUE, LAYOUT, fetched)
    assert "no layer was missing" in transfers.pull_summary(VALUE, LAYOUT, [])


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
    assert transfers.push_document(pushed) == {
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
    text = transfers.push_summary(pushed, {"push": 1.5})
    lines = text.splitlines()
    assert lines[0] == "t -> host.example:5000/team/app:v1"
    assert lines[-1].strip() == reference
    for part in ("1 kB", "2 kB", "3 kB", "1.23 kB", "1.50 s", "vnd.cyclonedx+json"):
        assert part in text
    same = replace(pushed, before=image.manifest_digest, attached=())
    shown = transfers.push_summary(same, {})
    assert "(unchanged)" in shown
    assert "moved" not in shown
    assert ["attached", "nothing"] in [line.split() for line in shown.splitlines()]
    moved = transfers.push_summary(replace(pushed, before=digests[0]), {})
    assert f"(moved; it named {digests[0]})" in moved


def test_bundle_prints_a_command_that_trusts_nothing_of_it(tmp_path: Path) -> None:
    source, image = bundles.three_layers(tmp_path / "store")
    made = bundles.make(source, image, tmp_path / "out")
    lines = transfers.bundle_summary(made).splitlines()[-2:]
    root = tmp_path / "root"
    command = " ".join(line.strip() for line in lines)
    assert command == transfers.bundle_document(made)["unpack"]
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
