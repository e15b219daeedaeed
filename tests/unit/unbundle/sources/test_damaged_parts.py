"""Parts that arrive damaged, under other names, or from another bundle."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from images.oci.image import Image
from images.oci.store.store import Store
from tests.damage import flip
from tests.unit import bundles
from tests.unit.bundles import make, parts, run, tree


def test_a_corrupted_part_is_named_and_the_rest_is_done(
    out: Path, tmp_path: Path, expected: object
) -> None:
    bad = parts(out)[5]
    right = bad.read_bytes()
    flip(bad)
    for _ in range(2):
        done = run(out, "--rootfs", tmp_path / "root")
        assert done.code == 6
        assert f"{bad.name}: damaged" in done.said
        assert f"fix: send {bad.name} again" in done.said
        assert done.said.count(f"{bad.name}: damaged") == 1
        assert "2 of 3 layers are in place" in done.said
    checked = run(out, "check")
    assert checked.code == 6
    assert f"send {bad.name} again" in checked.out
    assert f"{len(parts(out)) - 1} of {len(parts(out))} parts" in checked.out
    bad.write_bytes(right)
    assert run(out, "--rootfs", tmp_path / "root").code == 0
    assert tree(tmp_path / "root") == expected


def test_every_damaged_part_is_found(out: Path, tmp_path: Path) -> None:
    for path in parts(out):
        right = path.read_bytes()
        wrong = bytearray(right)
        wrong[random.Random(path.name).randrange(len(right))] ^= 0x80
        path.write_bytes(wrong)
        assert run(out, "check").code == 6
        path.write_bytes(right)
    assert run(out, "check").code == 0


def test_a_truncated_part_may_still_be_arriving(
    out: Path, tmp_path: Path, expected: object
) -> None:
    part = parts(out)[4]
    right = part.read_bytes()
    part.write_bytes(right[:1234])
    done = run(out, "--rootfs", tmp_path / "root")
    assert done.code == 3
    assert f"{part.name} (1234 bytes instead of 100000)" in done.said
    assert run(out, "check").code == 6
    part.write_bytes(right + b"x")
    assert run(out, "--rootfs", tmp_path / "root").code == 3
    part.write_bytes(right)
    assert run(out, "--rootfs", tmp_path / "root").code == 0
    assert tree(tmp_path / "root") == expected


def test_a_part_with_the_bytes_of_another_is_reported(out: Path, tmp_path: Path) -> None:
    first, second = parts(out)[2:4]
    shutil.copy(first, second)
    done = run(out, "--rootfs", tmp_path / "root")
    assert done.code == 6
    assert f"{second.name}: has the bytes of {first.name}" in done.said
    assert f"send {second.name} again" in done.said


def test_parts_under_other_names_are_reported(out: Path, tmp_path: Path, expected: object) -> None:
    first, second = parts(out)[2:4]
    shutil.copy(first, out / "part-0002 (1)")
    second.rename(out / "part-0003.download")
    (out / "part-9999").write_bytes(b"of another bundle")
    for code, text in (
        (lambda done: (done.code, done.out))(run(out, "check")),
        (lambda done: (done.code, done.said))(run(out, "--rootfs", tmp_path / "root")),
    ):
        assert code == 3
        assert "part-0002 (1): has the bytes of part-0002" in text
        assert "remove part-0002 (1)" in text
        assert "rename it: mv 'part-0003.download' part-0003" in text
        assert "part-9999: not of this bundle" in text
    (out / "part-0003.download").rename(second)
    # A foreign part does not stop what can be done.
    assert run(out, "--rootfs", tmp_path / "root").code == 0
    assert tree(tmp_path / "root") == expected


def test_a_bundle_of_another_image_does_not_continue_this_one(
    small: tuple[Store, Image], out: Path, tmp_path: Path
) -> None:
    layout, image = small
    other = bundles.save(layout, "other", image.layers[0].blob)
    make(layout, other, tmp_path / "other")
    parts(out)[-1].unlink()
    assert run(out, "--rootfs", tmp_path / "root").code == 3
    done = run(tmp_path / "other", "--rootfs", tmp_path / "root")
    assert done.code == 2
    assert "has another image, or a part of one: small" in done.said
    # And the other's document beside this one's parts fits none of them.
    shutil.copy(tmp_path / "other" / "bundle.json", out)
    assert run(out, "--rootfs", tmp_path / "fresh").code in (3, 6)
    assert not list((tmp_path / "fresh").iterdir())


def test_a_damaged_document_is_reported(out: Path, tmp_path: Path) -> None:
    path = out / "bundle.json"
    content = path.read_text()
    for wrong in ("", content[:-100], content.replace('"part_size": 1', '"part_size": 2'), "[]"):
        path.write_text(wrong)
        for arguments in (("check",), ("--rootfs", tmp_path / "root")):
            done = run(out, *arguments)
            assert done.code == 6
            assert "send bundle.json again" in done.said
    path.write_text(content.replace('"bundle": 1', '"bundle": 2'))
    assert "format 2 instead of 1" in run(out, "check").said
    path.unlink()
    assert run(out, "check").code == 3
    assert not (tmp_path / "root").exists()


def test_check_writes_nothing(out: Path) -> None:
    before = bundles.files(out)
    assert run(out, "check").code == 0
    flip(parts(out)[0])
    spoilt = bundles.files(out)
    assert run(out, "check").code == 6
    assert bundles.files(out) == spoilt != before
