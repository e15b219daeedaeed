"""Hostile and foreign layers: nothing is written outside the destination."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from images.oci.image import Image
from images.oci.layer.entry import of_bytes, of_symlink
from images.oci.store import store
from images.oci.store.store import Store
from images.unbundle import document
from tests.damage import flip
from tests.unit import bundles
from tests.unit.bundles import make, parts, record, run
from tests.unit.layers import member, of_members


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([("/etc/absolute", "f", "")], "/etc/absolute"),
        ([("../above", "f", "")], "../above"),
        ([("a/../../above", "f", "")], "a/../../above"),
        ([("link", "l", "/tmp"), ("link/through", "f", "")], "link/through"),
        ([("name", "h", "/etc/passwd")], "name"),
        ([("name", "h", "../outside")], "name"),
        ([("l", "l", "../outside"), ("h", "h", "l")], "h:"),
        ([("no/parent", "f", "")], "no/parent"),
        ([("file", "f", ""), ("file/below", "f", "")], "file/below"),
        ([("d", "d", ""), ("d", "f", "")], "d:"),
        ([(".unpack-covered", "l", "../outside")], ".unpack-covered"),
        ([(".wh.gone", "f", "")], ".wh.gone"),
        ([("null", "c", "")], "null"),
        ([("pipe", "p", "")], "pipe"),
    ],
)
def test_nothing_is_written_outside(
    tmp_path: Path, names: list[tuple[str, str, str]], said: str
) -> None:
    kinds = {"f": b"0", "l": b"2", "h": b"1", "d": b"5", "c": b"3", "p": b"6"}
    layout = store.open_store(tmp_path / "store")
    blob = of_members(layout, *(member(name, kinds[kind], to) for name, kind, to in names))
    image = bundles.save(layout, "hostile", blob)
    make(layout, image, tmp_path / "out")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "outside").write_text("untouched")
    before = (inner / "outside").stat()
    done = run(tmp_path / "out", "--rootfs", inner / "root")
    assert done.code == 6
    assert said in done.said
    assert "layer 0" in done.said
    assert (inner / "outside").stat() == before
    left = {path.name for path in inner.iterdir()}
    assert left == {"outside", "root", "root.json", "root.unpack"}


def test_links_of_lower_layers_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    layout = store.open_store(tmp_path / "store")
    lower = bundles.add(layout, [of_symlink("way", str(outside))])
    upper = bundles.add(layout, [of_bytes("way/through", b"x")])
    make(layout, bundles.save(layout, "links", lower, upper), tmp_path / "out")
    for _ in range(2):
        assert run(tmp_path / "out", "--rootfs", tmp_path / "root").code == 6
        assert not list(outside.iterdir())


def test_a_planted_link_is_not_followed_when_it_resumes(out: Path, tmp_path: Path) -> None:
    """Whoever writes to an unfinished destination cannot make it write elsewhere."""
    removed = {path: path.read_bytes() for path in parts(out)}
    for path in removed:
        path.unlink()
    assert run(out, "--rootfs", tmp_path / "root").code == 3
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("bin", "etc", "opt"):
        (tmp_path / "root" / name).symlink_to(outside)
    for path, content in removed.items():
        path.write_bytes(content)
    assert run(out, "--rootfs", tmp_path / "root").code == 0
    assert not list(outside.iterdir())
    assert (tmp_path / "root" / "bin" / "tool").is_file()


def test_bytes_that_are_not_the_manifests_are_refused(
    small: tuple[Store, Image], out: Path, tmp_path: Path
) -> None:
    """Parts match the document, and the document is consistent: only the digests differ."""
    made = document.decode((out / "bundle.json").read_bytes())
    flip(parts(out)[-1])
    wrong = hashlib.sha256(parts(out)[-1].read_bytes()).hexdigest()
    last = replace(made.parts[-1], sha256=wrong)
    forged = replace(made, parts=(*made.parts[:-1], last))
    (out / "bundle.json").write_bytes(document.encode(forged))
    assert run(out, "check").code == 0
    for option in ("--layout", "--rootfs"):
        done = run(out, option, tmp_path / option)
        assert done.code == 6
        assert "layer 2: " in done.said
    assert not (tmp_path / "--layout" / "index.json").exists()
    assert record(tmp_path / "--rootfs")["complete"] is False


def test_a_tar_that_is_not_the_configs_is_refused(
    small: tuple[Store, Image], tmp_path: Path
) -> None:
    layout, image = small
    right = image.layers[0].blob
    wrong = replace(right, diff_id=f"sha256:{'0' * 64}")
    make(layout, bundles.save(layout, "wrong", wrong), tmp_path / "out")
    done = run(tmp_path / "out", "--rootfs", tmp_path / "root")
    assert done.code == 6
    assert f"{right.diff_id} instead of {wrong.diff_id}" in done.said
