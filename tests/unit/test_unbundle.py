"""Bundles where they arrive: the unpacker as a program, in a Python that has nothing of ours."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from images import store, unpack
from images.entry import Entry, of_bytes, of_symlink
from images.image import Image
from images.progress import Progress
from images.store import Store
from images.unbundle import document, inventory
from tests.unit import bundles
from tests.unit.bundles import make, parts, record, run, tree
from tests.unit.test_unpack import member, of_members


@pytest.fixture
def small(tmp_path: Path) -> tuple[Store, Image]:
    return bundles.three_layers(tmp_path / "store")


@pytest.fixture
def out(small: tuple[Store, Image], tmp_path: Path) -> Path:
    """A bundle of the small image in parts of 100 kB."""
    make(*small, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def expected(small: tuple[Store, Image], tmp_path: Path) -> dict[str, tuple[object, ...]]:
    """The image as images.unpack lays it out, layer upon layer."""
    with Path(os.devnull).open("w") as silent:
        unpack.unpack(*small, tmp_path / "expected", Progress(silent))
    return tree(tmp_path / "expected")


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# -- whole bundles ---------------------------------------------------------------------------------


def test_rootfs_is_the_image(
    small: tuple[Store, Image], out: Path, tmp_path: Path, expected: object
) -> None:
    _, image = small
    done = run(out, "--rootfs", tmp_path / "root", umask=0o077)
    assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o755
    assert record(tmp_path / "root") == {
        "complete": True,
        "config_digest": image.config_digest,
        "env": dict(image.env),
        "labels": dict(image.labels),
        "manifest_digest": image.manifest_digest,
        "ref": "small",
    }
    assert f"{tmp_path / 'root'}.enter" in done.out
    assert image.manifest_digest in done.said
    assert not (tmp_path / "root.unpack").exists()


def test_again_changes_nothing_and_needs_no_parts(out: Path, tmp_path: Path) -> None:
    assert run(out, "--rootfs", tmp_path / "root").code == 0
    before = (tmp_path / "root" / "bin" / "tool").stat()
    for path in parts(out):
        path.unlink()
    assert run(out, "--rootfs", tmp_path / "root").code == 0
    assert (tmp_path / "root" / "bin" / "tool").stat() == before


def test_layout_is_the_store_again(small: tuple[Store, Image], out: Path, tmp_path: Path) -> None:
    layout, image = small
    done = run(out, "--layout", tmp_path / "layout")
    assert done.code == 0, done.said
    found = store.open_store(tmp_path / "layout", create=False)
    assert found.images() == {"small": image.manifest_digest}
    assert found.verify() == []
    for item in image.layers:
        original = layout.blob_path(item.blob.digest).read_bytes()
        assert found.blob_path(item.blob.digest).read_bytes() == original
    left = {path.name for path in (tmp_path / "layout").iterdir()}
    assert left == {"oci-layout", "index.json", "blobs", ".roll"}
    assert f"oci:{tmp_path / 'layout'}:small" in done.out


def test_layout_and_rootfs_at_once(
    small: tuple[Store, Image], out: Path, tmp_path: Path, expected: object
) -> None:
    options = ("--layout", tmp_path / "layout", "--rootfs", tmp_path / "root", "--remove-parts")
    assert run(out, *options).code == 0
    assert parts(out) == []
    assert tree(tmp_path / "root") == expected
    # A second root comes from the layout: the parts are gone.
    more = run(out, "--rootfs", tmp_path / "more")
    assert more.code == 3
    assert run(out, "--rootfs", tmp_path / "more", "--from", tmp_path / "layout").code == 0
    assert tree(tmp_path / "more") == expected


def test_layout_without_layers_tells_what_the_image_is(
    small: tuple[Store, Image], out: Path, tmp_path: Path
) -> None:
    for path in parts(out):
        path.unlink()
    done = run(out, "--layout", tmp_path / "layout", "--no-layers")
    assert done.code == 0, done.said
    image = store.open_store(tmp_path / "layout", create=False).load("small")
    assert image.manifest_digest == small[1].manifest_digest
    assert image.env == small[1].env
    assert run(out, "--rootfs", tmp_path / "root", "--no-layers").code == 2


def test_layout_takes_a_second_image(small: tuple[Store, Image], out: Path, tmp_path: Path) -> None:
    layout, image = small
    assert run(out, "--layout", tmp_path / "layout").code == 0
    more = bundles.add(layout, [of_bytes("new", bundles.noise(50_000, 9))])
    newer = bundles.save(layout, "newer", *(item.blob for item in image.layers), more)
    digests = [item.blob.digest for item in image.layers]
    made = make(layout, newer, tmp_path / "second", since=digests)
    assert made.bytes == more.size
    # What --since left out is found where the first bundle brought it.
    assert run(tmp_path / "second", "--layout", tmp_path / "layout").code == 0
    found = store.open_store(tmp_path / "layout", create=False)
    assert found.images() == {
        "small": image.manifest_digest,
        "newer": newer.manifest_digest,
    }
    assert found.verify() == []
    alone = run(tmp_path / "second", "--rootfs", tmp_path / "root")
    assert alone.code == 3
    assert "--from DIR" in alone.said
    assert "layer 1" in alone.said
    options = ("--rootfs", tmp_path / "root", "--from", tmp_path / "layout")
    assert run(tmp_path / "second", *options).code == 0
    assert (tmp_path / "root" / "new").read_bytes() == bundles.noise(50_000, 9)


def old_python() -> str:
    places = [*Path.home().glob(".pyenv/versions/3.8.*/bin/python3"), shutil.which("python3.8")]
    for place in map(str, filter(None, places)):
        if subprocess.run([place, "-c", ""], capture_output=True, check=False).returncode == 0:
            return place
    pytest.skip("there is no Python 3.8 here")


def test_with_the_oldest_python(out: Path, tmp_path: Path, expected: object) -> None:
    python = old_python()
    done = run(out, "--rootfs", tmp_path / "root", python=python)
    assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected
    assert run(out, "check", python=python).code == 0
    assert run(out, "inventory", tmp_path / "root", python=python).code == 0


def test_as_an_ordinary_user(out: Path, tmp_path: Path, expected: dict[str, object]) -> None:
    if os.geteuid() != 0:
        pytest.skip("the tests run as an ordinary user already")
    for path in (tmp_path, *tmp_path.parents):
        if path.is_relative_to(tempfile.gettempdir()) and path != Path(tempfile.gettempdir()):
            path.chmod(0o755)
    place = tmp_path / "of user"
    place.mkdir()
    os.chown(place, 12345, 12345)
    command = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
    command += [bundles.PYTHON, str(out / "unpack.py"), "--rootfs", str(place / "root")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert tree(place / "root").keys() == expected.keys()
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in (place / "root").rglob("*")}
    assert owners == {(12345, 12345)}


@given(
    sizes=st.lists(st.integers(0, 5000), min_size=0, max_size=4),
    part_size=st.integers(1, 9000),
    aligned=st.booleans(),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_part_size_fits_any_layers(
    tmp_path: Path, sizes: list[int], part_size: int, aligned: bool
) -> None:
    """Also where parts end as layers do."""
    place = tmp_path / "any"
    shutil.rmtree(place, ignore_errors=True)
    layout = store.open_store(place / "store")
    blobs = [
        bundles.add(layout, [of_bytes(f"f{number}", bundles.noise(size, number))])
        for number, size in enumerate(sizes)
    ]
    if aligned and blobs:
        part_size = blobs[0].size
    image = bundles.save(layout, "any", *blobs)
    made = make(layout, image, place / "out", part_size)
    assert made.bytes == sum(blob.size for blob in blobs)
    done = run(place / "out", "--rootfs", place / "root")
    assert done.code == 0, done.said
    found = {path.name: path.read_bytes() for path in (place / "root").iterdir()}
    assert found == {f"f{number}": bundles.noise(size, number) for number, size in enumerate(sizes)}


# -- parts that arrive one by one ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_parts_in_any_order_one_at_a_time(
    out: Path, tmp_path: Path, expected: object, seed: int
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy(out / "unpack.py", there)
    assert run(there, "--rootfs", tmp_path / "root").code == 3
    for name in ("bundle.json", "libzstd.so.1"):
        if (out / name).exists():
            shutil.copy(out / name, there)
    queue = parts(out)
    random.Random(seed).shuffle(queue)
    for number, part in enumerate(queue, 1):
        shutil.copy(part, there)
        done = run(there, "--rootfs", tmp_path / "root", "--remove-parts")
        if number < len(queue):
            assert done.code == 3, done.said
            assert record(tmp_path / "root")["complete"] is False
            assert "run the same command again" in done.said
            assert part.name not in done.said.rpartition("missing:")[2]
        else:
            assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected
    assert parts(there) == []


def test_what_is_missing_is_told_in_ranges(out: Path, tmp_path: Path) -> None:
    names = [path.name for path in parts(out)]
    for name in (names[1], names[3], names[4], names[5], names[-1]):
        (out / name).unlink()
    wanted = f"{names[1]}, {names[3]} to {names[5]}, {names[-1]}"
    checked = run(out, "check")
    assert checked.code == 3
    assert f"missing: {wanted}\n" in checked.out
    done = run(out, "--rootfs", tmp_path / "root")
    assert done.code == 3
    assert f"5 parts missing: {wanted}\n" in done.said


def test_removing_keeps_what_an_unfinished_layer_needs(out: Path, tmp_path: Path) -> None:
    bundle = document.decode((out / "bundle.json").read_bytes())
    middle = bundle.layers[1]
    missing = parts(out)[(middle.offset + middle.length) // 100_000 - 1]
    kept = missing.read_bytes()
    missing.unlink()
    assert run(out, "--rootfs", tmp_path / "root", "--remove-parts").code == 3
    first, last = middle.offset // 100_000, (middle.offset + middle.length - 1) // 100_000
    wanted = {f"part-{number:04d}" for number in range(first, last + 1)} - {missing.name}
    assert {path.name for path in parts(out)} == wanted
    missing.write_bytes(kept)
    assert run(out, "--rootfs", tmp_path / "root", "--remove-parts").code == 0
    assert parts(out) == []


# -- parts that arrive damaged ---------------------------------------------------------------------


def test_a_corrupted_part_is_named_and_the_rest_is_done(
    out: Path, tmp_path: Path, expected: object
) -> None:
    bad = parts(out)[5]
    right = bad.read_bytes()
    spoil(bad)
    for _ in range(2):
        done = run(out, "--rootfs", tmp_path / "root")
        assert done.code == 6
        assert f"{bad.name}: damaged" in done.said
        assert f"mend it: send {bad.name} again" in done.said
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


def test_a_part_with_the_bytes_of_another_is_told(out: Path, tmp_path: Path) -> None:
    first, second = parts(out)[2:4]
    shutil.copy(first, second)
    done = run(out, "--rootfs", tmp_path / "root")
    assert done.code == 6
    assert f"{second.name}: holds the bytes of {first.name}" in done.said
    assert f"send {second.name} again" in done.said


def test_parts_under_other_names_are_told(out: Path, tmp_path: Path, expected: object) -> None:
    first, second = parts(out)[2:4]
    shutil.copy(first, out / "part-0002 (1)")
    second.rename(out / "part-0003.download")
    (out / "part-9999").write_bytes(b"of another bundle")
    for code, text in (
        (lambda done: (done.code, done.out))(run(out, "check")),
        (lambda done: (done.code, done.said))(run(out, "--rootfs", tmp_path / "root")),
    ):
        assert code == 3
        assert "part-0002 (1): the bytes of part-0002 under another name" in text
        assert "remove part-0002 (1)" in text
        assert "rename it: mv 'part-0003.download' part-0003" in text
        assert "part-9999: not of this bundle" in text
    (out / "part-0003.download").rename(second)
    # A stranger does not stop what can be done.
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
    assert "awaits another image: small" in done.said
    # And the other's document beside this one's parts fits none of them.
    shutil.copy(tmp_path / "other" / "bundle.json", out)
    assert run(out, "--rootfs", tmp_path / "fresh").code in (3, 6)
    assert not list((tmp_path / "fresh").iterdir())


def test_a_damaged_document_is_told(out: Path, tmp_path: Path) -> None:
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
    spoil(parts(out)[0])
    spoilt = bundles.files(out)
    assert run(out, "check").code == 6
    assert bundles.files(out) == spoilt != before


# -- runs that are cut short -----------------------------------------------------------------------


def killed_soon(command: list[str], after: float) -> int:
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
    ) as running:
        time.sleep(after)
        running.send_signal(signal.SIGKILL)
        return running.wait()


@pytest.mark.parametrize("more", [(), ("--remove-parts",), ("--layout", "layout")])
def test_killed_at_any_moment_it_goes_on(
    small: tuple[Store, Image], tmp_path: Path, more: tuple[str, ...]
) -> None:
    """Kills are spread over the time that a whole run takes, whatever the machine."""
    layout, _ = small
    many = [of_bytes(f"many/{number}", bundles.noise(30_000, number)) for number in range(400)]
    links = [Entry(f"links/{number}", "hardlink", target="many/0") for number in range(50)]
    blobs = [bundles.add(layout, [*many[:200], *links[:0]]), bundles.add(layout, [*many, *links])]
    blobs.append(bundles.add(layout, [of_bytes("many/0", b"the last word")]))
    image = bundles.save(layout, "many", *blobs)
    with Path(os.devnull).open("w") as silent:
        unpack.unpack(layout, image, tmp_path / "expected", Progress(silent))
    make(layout, image, tmp_path / "trial", 1_000_000)
    begin = time.monotonic()
    assert run(tmp_path / "trial", "--rootfs", tmp_path / "trial-root").code == 0
    whole = time.monotonic() - begin
    moments = random.Random(5)
    for attempt in range(2):
        out, root = tmp_path / f"out-{attempt}", tmp_path / f"root-{attempt}"
        make(layout, image, out, 1_000_000)
        arguments = ["--rootfs", str(root), *more]
        arguments = [
            str(tmp_path / f"l{attempt}") if item == "layout" else item for item in arguments
        ]
        command = [bundles.PYTHON, str(out / "unpack.py"), *arguments]
        for _ in range(5):
            killed_soon(command, moments.uniform(0, whole))
            if Path(f"{root}.json").exists() and record(root)["complete"]:
                assert tree(root) == tree(tmp_path / "expected")
        done = run(out, *arguments)
        assert done.code == 0, done.said
        assert tree(root) == tree(tmp_path / "expected")
        assert not Path(f"{root}.unpack").exists()
        if "layout" in more:
            found = store.open_store(tmp_path / f"l{attempt}", create=False)
            assert found.verify() == []
            assert not list((tmp_path / f"l{attempt}" / "blobs" / "sha256").glob("*.new"))


AT_FILE = """
import os, runpy, signal, sys
calls, place, sys.argv = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
def audit(event, arguments):
    global calls
    ours = arguments and str(arguments[0]).startswith(place)
    if ours and event in ("open", "os.rename", "os.mkdir", "os.remove", "os.chmod"):
        calls -= 1
        if calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(audit)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_killed_at_every_file_it_goes_on(out: Path, tmp_path: Path, expected: object) -> None:
    """Each time one step further on, into the same destination; and each time into a new one."""
    there = tmp_path / "there"
    arguments = ["--rootfs", str(there / "root"), "--layout", str(there / "layout")]
    steps = 0
    while True:
        steps += 1
        command = [bundles.PYTHON, "-c", AT_FILE, str(steps), str(tmp_path / "there")]
        command += [str(out / "unpack.py"), *arguments, "--jobs", "1"]
        cut = subprocess.run(command, capture_output=True, text=True, check=False)
        if cut.returncode != -signal.SIGKILL:
            break
        if (tmp_path / "there/root.json").exists():
            assert record(tmp_path / "there/root")["complete"] in (False, True)
        if steps % 3:
            continue
        done = run(out, *arguments)
        assert done.code == 0, (steps, done.said)
        assert tree(tmp_path / "there/root") == expected
        shutil.rmtree(tmp_path / "there")
    assert cut.returncode == 0, cut.stderr
    assert steps > 30
    assert store.open_store(tmp_path / "there/layout", create=False).verify() == []


def test_interrupted_by_a_person(out: Path, tmp_path: Path) -> None:
    with at_work(out, "--rootfs", tmp_path / "root") as running:
        running.send_signal(signal.SIGINT)
        _, said = running.communicate()
    assert running.returncode == 130
    assert b"the same command goes on" in said
    assert b"Traceback" not in said
    assert run(out, "--rootfs", tmp_path / "root").code == 0


@contextmanager
def at_work(out: Path, option: str, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run that is in the middle of its first layers, for as long as it is left alone."""
    command = [bundles.PYTHON, "-c", WAITS, str(out / "unpack.py"), option, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"at work\n"
            yield running
        finally:
            running.kill()


WAITS = """
import os, sys, time
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0])
from images.unbundle import cli, work
def bring(self, layer):
    os.write(1, b"at work\\n")  # at once: layers are brought by several threads
    time.sleep(1000)
work.Work._bring = bring
sys.exit(cli.main())
"""


@pytest.mark.parametrize("option", ["--rootfs", "--layout"])
def test_two_runs_at_once_do_not_meet(out: Path, tmp_path: Path, option: str) -> None:
    with at_work(out, option, tmp_path / "place"):
        done = run(out, option, tmp_path / "place")
    assert done.code == 2
    assert "another run is at work" in done.said
    assert run(out, option, tmp_path / "place").code == 0


def test_full_disk_is_told_and_the_same_command_goes_on(
    out: Path, tiny_disk: Path, expected: object
) -> None:
    for option, too_small in (("--rootfs", "1m"), ("--layout", "600k")):
        resize(tiny_disk, too_small)
        done = run(out, option, tiny_disk / "here")
        assert done.code == 7
        assert "no space left" in done.said
        assert "run the same command again" in done.said
        resize(tiny_disk, "64m")
        assert run(out, option, tiny_disk / "here").code == 0
        if option == "--rootfs":
            assert tree(tiny_disk / "here") == expected
        subprocess.run(["find", str(tiny_disk), "-mindepth", "1", "-delete"], check=True)


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@pytest.mark.parametrize("option", ["--rootfs", "--layout"])
def test_a_destination_of_something_else_is_refused(out: Path, tmp_path: Path, option: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "mine").write_text("precious")
    done = run(out, option, place)
    assert done.code == 2
    assert [path.name for path in place.iterdir()] == ["mine"]
    assert not list(tmp_path.glob("place.*"))
    assert run(out, option, place / "mine").code == 2
    assert run(out).code == 2


def test_a_record_that_is_not_ours_is_refused(out: Path, tmp_path: Path) -> None:
    (tmp_path / "root.json").write_text("[]")
    done = run(out, "--rootfs", tmp_path / "root")
    assert done.code == 2
    assert "root.json" in done.said


# -- what the destination has ----------------------------------------------------------------------


@pytest.fixture
def elsewhere(small: tuple[Store, Image], tmp_path: Path) -> Path:
    """An inventory of another directory with some of the image's files, under other names."""
    place = tmp_path / "site packages"
    place.mkdir()
    (place / 'the "tool"\n').write_bytes(bundles.noise(60_000, 1))
    (place / "closed").write_bytes(b"x" * 300_000)
    (place / "nul").write_bytes(bytes(3_000_000))
    (place / "other").write_bytes(bundles.noise(70_000, 77))
    done = subprocess.run(
        [bundles.PYTHON, inventory.__file__, str(place)], capture_output=True, text=True, check=True
    )
    assert "4 files" in done.stderr
    (tmp_path / "inventory").write_text(done.stdout)
    return tmp_path / "inventory"


def test_files_that_the_destination_has_do_not_travel(
    small: tuple[Store, Image], elsewhere: Path, tmp_path: Path, expected: object
) -> None:
    layout, image = small
    made = make(layout, image, tmp_path / "out", have=[elsewhere])
    assert made.recipes == ("layer 0", "layer 1")
    options = ("--rootfs", tmp_path / "root", "--layout", tmp_path / "layout")
    done = run(tmp_path / "out", *options)
    assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected
    found = store.open_store(tmp_path / "layout", create=False)
    assert found.verify() == []
    rebuilt = found.load("small")
    assert rebuilt.config_digest == image.config_digest
    assert rebuilt.manifest_digest != image.manifest_digest
    assert record(tmp_path / "root")["manifest_digest"] == image.manifest_digest
    head = json.loads(rebuilt_manifest(found))
    assert head["annotations"]["roll.bundle.manifest"] == image.manifest_digest
    kinds = [item["mediaType"].rpartition(".")[2] for item in head["layers"]]
    assert kinds == ["tar", "tar", "tar+zstd"]
    assert [item["digest"] for item in head["layers"]] == [
        image.layers[0].blob.diff_id,
        image.layers[1].blob.diff_id,
        image.layers[2].blob.digest,
    ]
    assert "2 layers were put together" in done.out
    assert image.config_digest in done.out


def rebuilt_manifest(found: Store) -> bytes:
    return found.read(found.images()["small"])


def test_a_layer_that_was_put_together_once_is_held_as_a_tar(
    small: tuple[Store, Image], elsewhere: Path, tmp_path: Path, expected: object
) -> None:
    layout, image = small
    make(layout, image, tmp_path / "out", have=[elsewhere])
    assert run(tmp_path / "out", "--layout", tmp_path / "layout").code == 0
    listed = run(tmp_path / "out", "inventory", tmp_path / "layout" / "blobs")
    (tmp_path / "second").write_text(listed.out)
    made = make(layout, image, tmp_path / "again", have=[tmp_path / "second"])
    assert made.left_out_layers == ("layer 0", "layer 1", "layer 2")
    assert made.bytes == 0
    assert parts(tmp_path / "again") == []
    assert run(tmp_path / "again", "--rootfs", tmp_path / "root").code == 0
    assert tree(tmp_path / "root") == expected


def test_a_file_that_changed_since_the_inventory_is_told_and_can_be_elsewhere(
    small: tuple[Store, Image], elsewhere: Path, tmp_path: Path, expected: object
) -> None:
    make(*small, tmp_path / "out", have=[elsewhere])
    place = tmp_path / "site packages"
    spoil(place / "closed")
    done = run(tmp_path / "out", "--rootfs", tmp_path / "root")
    assert done.code == 3
    assert str(place / "closed") in done.said
    assert "--from DIR" in done.said
    (tmp_path / "more" / "deep").mkdir(parents=True)
    (tmp_path / "more" / "deep" / "decoy").write_bytes(b"y" * 300_000)
    (tmp_path / "more" / "deep" / "name").write_bytes(b"x" * 300_000)
    done = run(tmp_path / "out", "--rootfs", tmp_path / "root", "--from", tmp_path / "more")
    assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected


def test_everything_can_be_there_already(
    small: tuple[Store, Image], tmp_path: Path, expected: object
) -> None:
    """An earlier root file system as source: heads and small files travel, and little else."""
    layout, image = small
    with (tmp_path / "inventory").open("w") as out:
        inventory.write(inventory.take([tmp_path / "expected"], 2, 1), out)
    made = make(layout, image, tmp_path / "out", have=[tmp_path / "inventory"])
    assert made.bytes < 2_000
    assert run(tmp_path / "out", "--rootfs", tmp_path / "root").code == 0
    assert tree(tmp_path / "root") == expected


# -- hostile and foreign layers --------------------------------------------------------------------


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


def test_a_planted_link_is_not_followed_when_it_goes_on(out: Path, tmp_path: Path) -> None:
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
    """Parts as the document says, and a document that fits itself: only the digests tell."""
    made = document.decode((out / "bundle.json").read_bytes())
    spoil(parts(out)[-1])
    wrong = hashlib.sha256(parts(out)[-1].read_bytes()).hexdigest()
    last = replace(made.parts[-1], sha256=wrong)
    lying = replace(made, parts=(*made.parts[:-1], last))
    (out / "bundle.json").write_bytes(document.encode(lying))
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
    make(layout, bundles.save(layout, "lying", wrong), tmp_path / "out")
    done = run(tmp_path / "out", "--rootfs", tmp_path / "root")
    assert done.code == 6
    assert f"{right.diff_id} instead of {wrong.diff_id}" in done.said


# -- zstd ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["host", "program"])
def test_each_way_to_read_zstd(out: Path, tmp_path: Path, expected: object, way: str) -> None:
    done = run(out, "--rootfs", tmp_path / "root", "--zstd", way)
    if done.code == 8:
        pytest.skip(f"this machine has no such way: {done.said}")
    assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected


def host_library() -> Path:
    for path in Path("/usr/lib/x86_64-linux-gnu").glob("libzstd.so.1.*"):
        return path
    pytest.skip("this machine has no Debian libzstd1 to make a bundle's from")


@pytest.fixture
def carrying(tmp_path: Path) -> Path:
    """A bundle whose image brings a libzstd, as our base does."""
    layout = store.open_store(tmp_path / "carrying-store")
    library = host_library().read_bytes()
    base = bundles.add(layout, [of_bytes("usr/lib/x86_64-linux-gnu/libzstd.so.1.5.4", library)])
    make(layout, bundles.save(layout, "carrying", base), tmp_path / "carrying")
    return tmp_path / "carrying"


def test_the_bundle_brings_its_own_libzstd(carrying: Path, tmp_path: Path) -> None:
    assert (carrying / "libzstd.so.1").read_bytes() == host_library().read_bytes()
    assert "glibc 2." in document.decode((carrying / "bundle.json").read_bytes()).libzstd_needs
    done = run(carrying, "--rootfs", tmp_path / "root", "--zstd", "carried")
    assert done.code == 0, done.said


def test_a_damaged_libzstd_is_never_loaded(carrying: Path, tmp_path: Path) -> None:
    spoil(carrying / "libzstd.so.1")
    assert run(carrying, "check").code == 6
    done = run(carrying, "--rootfs", tmp_path / "root", "--zstd", "carried")
    assert done.code == 8
    assert "carried: not there" in done.said
    assert "install libzstd" in done.said
    (carrying / "libzstd.so.1").unlink()
    assert run(carrying, "check").code == 3
    assert run(carrying, "--rootfs", tmp_path / "root", "--zstd", "carried").code == 8


def test_gzip_alone_needs_no_zstd(tmp_path: Path) -> None:
    layout = store.open_store(tmp_path / "store")
    blob = bundles.add(layout, [of_bytes("a", bytes(3_000_000))], "gzip")
    make(layout, bundles.save(layout, "gz", blob), tmp_path / "out")
    assert not (tmp_path / "out" / "libzstd.so.1").exists()
    assert run(tmp_path / "out", "--rootfs", tmp_path / "root", "--zstd", "carried").code == 0
