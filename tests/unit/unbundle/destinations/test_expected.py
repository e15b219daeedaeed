"""What an unpacker trusts: its bundle, its destination, and the files there."""

from __future__ import annotations

import gzip
import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from images.oci.descriptor import Blob
from images.oci.image import Image, Layer
from images.oci.store import store
from images.oci.store.store import Store
from images.unbundle import document
from tests.unit import bundles
from tests.unit.bundles import make, parts, record, run, tree

OTHER = f"sha256:{'0' * 64}"


# -- the bundle ------------------------------------------------------------------------------------


def test_a_bundle_of_another_image_than_was_asked_for_is_refused(
    small: tuple[Store, Image], out: Path, tmp_path: Path, expected: object
) -> None:
    root, right = tmp_path / "root", small[1].manifest_digest
    for command in ((), ("check",)):
        options = ("--rootfs", root, "--remove-parts") if not command else ()
        done = run(out, *command, *options, "--digest", OTHER)
        assert done.code == 6
        assert f"of the image {right}, not of {OTHER}" in done.said
    assert not root.exists()
    assert parts(out)
    assert run(out, "check", "--digest", right).code == 0
    assert run(out, "--rootfs", root, "--digest", right).code == 0
    assert tree(root) == expected
    assert run(out, "--rootfs", root, "--digest", "latest").code == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda made: replace(made, part_size=1.5),
        lambda made: replace(made, files={"../../x": "0"}),
        lambda made: replace(made, libzstd_needs=5),
        lambda made: replace(made, layers=(replace(made.layers[0], path=5), *made.layers[1:])),
        lambda made: replace(made, layers=(replace(made.layers[0], length=True), *made.layers[1:])),
        lambda made: replace(made, parts=(replace(made.parts[0], sha256="../x"), *made.parts[1:])),
    ],
)
def test_values_of_another_kind_are_refused(out: Path, tmp_path: Path, change: Any) -> None:
    path = out / "bundle.json"
    path.write_bytes(document.encode(change(document.decode(path.read_bytes()))))
    done = run(out, "--layout", tmp_path / "layout")
    assert done.code == 6
    assert "contradicts itself" in done.said


def test_no_digest_is_a_way_out_of_the_layout(tmp_path: Path) -> None:
    """Blobs are named by their digests, and a manifest may have others than it should."""
    layout = store.open_store(tmp_path / "store")
    digest = "sha256:/../../../outside"
    blob = Blob(digest, OTHER, 5, 5, "application/vnd.oci.image.layer.v1.tar+gzip")
    image = Image("evil", (Layer("x", blob),), {}, {}, "2025-01-01T00:00:00Z")
    item = document.Layer(0, "x", digest, OTHER, 5, blob.media_type, "held", 0, 0, "")
    made = document.Bundle(
        "evil", image.manifest.decode(), image.config.decode(), (item,), 1, (), {}, ""
    )
    good = bundles.save(layout, "good", bundles.add(layout, []))
    make(layout, good, tmp_path / "out")
    (tmp_path / "out" / "bundle.json").write_bytes(document.encode(made))
    done = run(tmp_path / "out", "--layout", tmp_path / "layout")
    assert done.code == 6
    assert "a digest" in done.said
    assert not (tmp_path / "outside.new").exists()


def test_layers_of_several_gzip_members_are_unpacked(tmp_path: Path) -> None:
    layout = store.open_store(tmp_path / "store")
    blob = bundles.add(layout, bundles.entries_of_one_file(300_000), "gzip")
    plain = gzip.decompress(layout.blobs.path(blob.digest).read_bytes())
    packed = b"".join(gzip.compress(plain[at : at + 9_000]) for at in range(0, len(plain), 9_000))
    many = replace(blob, digest=layout.blobs.put(packed), size=len(packed))
    make(layout, bundles.save(layout, "members", many), tmp_path / "out")
    assert run(tmp_path / "out", "--rootfs", tmp_path / "root").code == 0
    assert (tmp_path / "root" / "file").stat().st_size == 300_000


@pytest.mark.parametrize("planted", ["pipe", "/dev/zero"])
def test_layer_of_the_destination_that_is_not_a_file_is_not_read(
    small: tuple[Store, Image], tmp_path: Path, planted: str
) -> None:
    layout, image = small
    os.mkfifo(tmp_path / "pipe")
    path = str(tmp_path / planted)  # the second one is absolute
    seen = tmp_path / "inventory"
    digest = image.layers[0].blob.digest[7:]
    seen.write_text(f'{json.dumps([digest, 5, path])}\n{{"files": 1}}\n')
    make(layout, image, tmp_path / "out", have=[seen])
    done = run(tmp_path / "out", "--rootfs", tmp_path / "root")
    assert done.code == 3
    assert "not a regular file" in done.said


def test_titles_that_a_terminal_obeys_are_escaped(tmp_path: Path) -> None:
    layout = store.open_store(tmp_path / "store")
    blob = bundles.add(layout, [])
    image = Image("odd", (Layer("\x1b[2Jgone\r", blob),), {}, {}, "2025-01-01T00:00:00Z")
    layout.save(image)
    make(layout, image, tmp_path / "out")
    done = run(tmp_path / "out", "--rootfs", tmp_path / "root")
    assert done.code == 0
    assert "\x1b" not in done.said
    assert "\\x1b[2Jgone" in done.said


# -- set-uid programs ------------------------------------------------------------------------------


def test_set_uid_bits_are_kept_only_in_a_private_directory(out: Path, tmp_path: Path) -> None:
    assert run(out, "--rootfs", tmp_path / "open").code == 0
    assert run(out, "--rootfs", tmp_path / "closed", "--keep-setuid").code == 0
    modes = {
        name: (
            stat.S_IMODE((tmp_path / name).stat().st_mode),
            stat.S_IMODE((tmp_path / name / "bin/tool").stat().st_mode),
        )
        for name in ("open", "closed")
    }
    assert modes == {"open": (0o755, 0o755), "closed": (0o700, 0o4755)}
    for name in modes:
        assert run(out, "check", "--rootfs", tmp_path / name).code == 0


# -- the destination -------------------------------------------------------------------------------


def plant(root: Path, out: Path, *, complete: bool) -> None:
    digest = document.decode((out / "bundle.json").read_bytes()).manifest_digest
    value = {"manifest_digest": digest, "ref": "small", "complete": complete}
    Path(f"{root}.json").write_text(json.dumps(value))


def test_a_record_with_complete_is_not_enough(out: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "evil").write_text("not of the image")
    plant(root, out, complete=True)
    done = run(out, "--rootfs", root, "--remove-parts")
    assert done.code == 6
    assert "missing: bin/tool" in done.said
    assert parts(out)


@pytest.mark.parametrize("complete", [False, True])
def test_nothing_is_written_through_a_link_in_the_place_of_the_directory(
    out: Path, tmp_path: Path, complete: bool
) -> None:
    victim = tmp_path / "victim"
    (victim / "etc").mkdir(parents=True)
    (victim / "etc" / "version").write_text("the host's")
    (tmp_path / "root").symlink_to(victim)
    plant(tmp_path / "root", out, complete=complete)
    done = run(out, "--rootfs", tmp_path / "root")
    assert done.code == 2
    assert "a symbolic link" in done.said
    assert (victim / "etc" / "version").read_text() == "the host's"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("whose", ["root", "root.json", "root.unpack"])
def test_what_somebody_else_put_there_is_not_believed(
    out: Path, tmp_path: Path, whose: str
) -> None:
    gone = {path: path.read_bytes() for path in parts(out)[:1]}
    for path in gone:
        path.unlink()
    assert run(out, "--rootfs", tmp_path / "root").code == 3
    os.chown(tmp_path / whose, 12345, 12345)
    for path, content in gone.items():
        path.write_bytes(content)
    done = run(out, "--rootfs", tmp_path / "root")
    assert done.code == 2
    assert "belongs to user 12345" in done.said
    os.chown(tmp_path / whose, 0, 0)
    assert run(out, "--rootfs", tmp_path / "root").code == 0


def test_a_damaged_note_of_a_layer_has_it_written_again(
    out: Path, tmp_path: Path, expected: object
) -> None:
    gone = {path: path.read_bytes() for path in parts(out)[-1:]}
    for path in gone:
        path.unlink()
    assert run(out, "--rootfs", tmp_path / "root").code == 3
    notes = sorted((tmp_path / "root.unpack").glob("layer-*.json"))
    assert notes
    for note in notes:
        note.write_text("[" * 100_000)
    for path, content in gone.items():
        path.write_bytes(content)
    done = run(out, "--rootfs", tmp_path / "root")
    assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected


# -- check --rootfs --------------------------------------------------------------------------------


def test_check_finds_all_that_is_not_as_the_layers_say(out: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert run(out, "check", "--rootfs", root).code == 2
    assert run(out, "--rootfs", root).code == 0
    assert run(out, "check", "--rootfs", root).code == 0
    (root / "etc/version").write_bytes(b"n3w\n")
    (root / "opt/nul").unlink()
    (root / "bin/link").unlink()
    (root / "bin/link").symlink_to("/somewhere/else")
    (root / "bin/tool").chmod(0o700)
    (root / "opt/added").mkdir()
    (root / "opt/added/file").touch()
    (root / "etc/hosts").touch()  # as DIR.enter does
    done = run(out, "check", "--rootfs", root)
    assert done.code == 6
    faults = {line.strip() for line in done.said.splitlines() if line.startswith("  ")}
    assert faults == {
        "missing: opt/nul",
        "changed: etc/version",
        "changed: bin/link",
        "other mode or owner: bin/tool",
        "other mode or owner: bin/same",  # its other name
        "added: opt/added",
    }
    assert record(root)["complete"] is True


def test_check_reports_missing_layers(out: Path, tmp_path: Path) -> None:
    assert run(out, "--rootfs", tmp_path / "root", "--remove-parts").code == 0
    done = run(out, "check", "--rootfs", tmp_path / "root")
    assert done.code == 3
    assert "part-0000" in done.said
    again = run(out, "--rootfs", tmp_path / "root")
    assert again.code == 0
    assert "not compared" in again.said


def test_an_edited_file_is_no_reason_to_refuse_another_run(out: Path, tmp_path: Path) -> None:
    """Who edits a source in the image may run the unpacker again, as each start of a node does."""
    assert run(out, "--rootfs", tmp_path / "root").code == 0
    (tmp_path / "root/etc/version").write_text("edited")
    assert run(out, "--rootfs", tmp_path / "root").code == 0
    assert (tmp_path / "root/etc/version").read_text() == "edited"
