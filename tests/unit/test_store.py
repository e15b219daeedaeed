"""The store: a valid layout at every moment, for every process, and every fault of it found."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from images.errors import IntegrityError, StoreError, UsageError
from images.image import Image, Layer, digest
from images.layer import Blob
from images.reference import Repository
from images.remote import Place, Remote
from images.store import Store, open_store
from images.store_upkeep import Swept

ROOT = Path(__file__).resolve().parents[2]

PRELUDE = """
import hashlib, os, sys, time
from pathlib import Path
from images.image import Image, Layer
from images.layer import Blob
from images.store import open_store

def put(store, content):
    name = "sha256:" + hashlib.sha256(content).hexdigest()
    with store.new_file() as (out, commit):
        for start in range(0, len(content), 65536):
            out.write(content[start:start + 65536])
        commit(name)
    return Blob(name, name, len(content), len(content), "t")

def image(ref, *blobs):
    return Image(ref, tuple(Layer(b.digest, b) for b in blobs), {}, {}, "2025-01-01T00:00:00Z")
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def blob_of(content: bytes) -> Blob:
    name = digest(content)
    return Blob(name, name, len(content), len(content), "application/t")


def add(store: Store, content: bytes) -> Blob:
    with store.new_file() as (out, commit):
        out.write(content)
        commit(digest(content))
    return blob_of(content)


def image_of(ref: str, *blobs: Blob) -> Image:
    layers = tuple(Layer(f"layer {number}", blob) for number, blob in enumerate(blobs))
    return Image(ref, layers, {"A": "x=y"}, {"l": "v"}, "2025-01-01T00:00:00Z")


def unfinished(store: Store) -> list[Path]:
    return list((store.path / ".roll/tmp").iterdir())


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def process(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: subprocess.Popen[str]) -> str:
    out, err = child.communicate()
    assert child.returncode == 0, err
    return out


def wait_for_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout
    line = child.stdout.readline().strip()
    assert line, child.communicate()[1]
    return line


# -- the layout ------------------------------------------------------------------------------------


def test_new_store_is_an_empty_oci_layout(store: Store) -> None:
    assert json.loads((store.path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((store.path / "index.json").read_bytes()) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    }
    assert store.verify() == []
    assert store.images() == {}
    assert unfinished(store) == []


def test_saved_image_is_found_as_the_specification_says(store: Store) -> None:
    value = image_of("one", add(store, b"layer"))
    store.save(value)
    (entry,) = json.loads((store.path / "index.json").read_bytes())["manifests"]
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "one"}
    manifest = (store.path / "blobs/sha256" / entry["digest"][7:]).read_bytes()
    assert (len(manifest), hashlib.sha256(manifest).hexdigest()) == (
        entry["size"],
        entry["digest"][7:],
    )
    document = json.loads(manifest)
    assert document["mediaType"] == entry["mediaType"]
    config = json.loads(
        (store.path / "blobs/sha256" / document["config"]["digest"][7:]).read_bytes()
    )
    assert config["rootfs"]["diff_ids"] == [digest(b"layer")]
    assert document["layers"][0]["digest"] == digest(b"layer")


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_skopeo_reads_the_layout(store: Store) -> None:
    store.save(image_of("one", add(store, b"layer")))
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{store.path}:one"], capture_output=True, check=True
    )
    assert digest(done.stdout) == store.images()["one"]


def test_image_comes_back_as_it_was_saved(store: Store) -> None:
    value = image_of("one", add(store, b"a"), add(store, b"b"))
    store.save(value)
    again = open_store(store.path, create=False).load("one")
    assert (again.manifest, again.config, again.env, again.labels) == (
        value.manifest,
        value.config,
        value.env,
        value.labels,
    )


def test_image_can_be_read_where_its_layers_are_not(store: Store) -> None:
    """A machine with an unpacked root file system needs the documents alone."""
    one = image_of("one", add(store, b"1"), add(store, b"2"))
    store.save(one)
    for layer in one.layers:
        store.blob_path(layer.blob.digest).unlink()
    shutil.rmtree(store.path / ".roll")
    found = open_store(store.path, create=False).load("one")
    assert found.manifest_digest == one.manifest_digest
    assert found.env == one.env


def test_saving_again_replaces_the_name_and_leaves_the_others(store: Store) -> None:
    first, other = image_of("b", add(store, b"1")), image_of("a", add(store, b"2"))
    second = image_of("b", add(store, b"3"))
    for value in (first, other, second):
        store.save(value)
    assert store.images() == {"a": other.manifest_digest, "b": second.manifest_digest}


def test_saving_the_same_again_writes_nothing(store: Store) -> None:
    value = image_of("one", add(store, b"1"))
    store.save(value)
    before = (store.path / "index.json").stat()
    store.save(value)
    after = (store.path / "index.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_entries_that_others_put_into_the_index_are_kept(store: Store) -> None:
    foreign = {"mediaType": "x", "digest": f"sha256:{'0' * 64}", "size": 3, "annotations": None}
    index = store.path / "index.json"
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": [foreign]}))
    store.save(image_of("one", add(store, b"1")))
    assert foreign in json.loads(index.read_bytes())["manifests"]
    assert list(store.images()) == ["one"]


def test_order_of_saving_does_not_show_in_the_index(tmp_path: Path) -> None:
    contents = []
    for number, names in enumerate((["a", "b", "c"], ["c", "a", "b"])):
        store = open_store(tmp_path / str(number))
        for name in names:
            store.save(image_of(name, add(store, b"1")))
        contents.append((store.path / "index.json").read_bytes())
    assert contents[0] == contents[1]


# -- blobs and keys --------------------------------------------------------------------------------


def test_blob_is_there_under_its_digest_with_its_size(store: Store) -> None:
    assert store.put(b"small") == digest(b"small")
    assert store.read(digest(b"small")) == b"small"
    assert store.has(digest(b"small"), 5)
    assert not store.has(digest(b"small"), 4)
    assert not store.has(digest(b"other"), 5)
    assert store.blob_path(digest(b"small")).stat().st_mode & 0o777 == 0o644


def test_file_without_a_name_leaves_nothing(store: Store) -> None:
    with store.new_file() as (out, _):
        out.write(b"never finished")
    with suppress(KeyError), store.new_file() as (out, _):
        out.write(b"failed")
        raise KeyError
    assert unfinished(store) == []
    assert store.size() == 0


def test_blob_is_not_visible_before_it_is_whole(store: Store) -> None:
    with store.new_file() as (out, commit):
        out.write(b"half")
        out.flush()
        assert store.size() == 0
        commit(digest(b"half"))
        assert store.has(digest(b"half"), 4)
    assert store.has(digest(b"half"), 4)


def test_read_tells_of_a_damaged_and_of_a_missing_blob(store: Store) -> None:
    store.blob_path(store.put(b"small")).write_bytes(b"smale")
    with pytest.raises(IntegrityError, match="other bytes") as damaged:
        store.read(digest(b"small"))
    assert "verify" in (damaged.value.remedy or "")
    with pytest.raises(StoreError, match="cannot be read"):
        store.read(digest(b"none"))


@pytest.mark.parametrize(
    "name", ["", "sha256:", "sha256:../../etc/passwd", "sha512:" + "0" * 64, "sha256:" + "A" * 64]
)
def test_what_is_not_a_digest_names_no_file(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="not a sha256 digest"):
        store.blob_path(name)


def test_key_is_known_while_its_blob_is_there(store: Store) -> None:
    blob = add(store, b"layer")
    assert store.known("key") is None
    store.remember("key", blob)
    assert open_store(store.path).known("key") == blob
    store.blob_path(blob.digest).write_bytes(b"laye")
    assert store.known("key") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"5", b"{}", b'{"digest": 1}', b"\xff\xfe",
     b'{"digest": 5, "diff_id": "", "size": 1, "unpacked": 1, "media_type": ""}',
     b'{"digest": "sha256:zz", "diff_id": "", "size": 1, "unpacked": 1, "media_type": ""}'],
)  # fmt: skip
def test_broken_key_is_an_unknown_key(store: Store, content: bytes) -> None:
    (store.path / ".roll/layers/key").write_bytes(content)
    assert store.known("key") is None
    assert store.gc().keys == 1


# -- other processes -------------------------------------------------------------------------------

WRITE_WITHOUT_END = """
store = open_store(Path(sys.argv[1]))
with store.building():
    print("ready", flush=True)
    number = 0
    while True:
        number += 1
        blob = put(store, os.urandom(300_000))
        store.remember(f"key{number}", blob)
        store.save(image(f"ref{number % 5}", blob))
"""


def test_killed_at_any_moment_the_store_stays_valid(store: Store) -> None:
    rng = random.Random(5)
    left_behind = 0
    for _ in range(10):
        child = process(WRITE_WITHOUT_END, store.path)
        wait_for_line(child)
        time.sleep(rng.uniform(0.0, 0.06))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        left_behind += len(unfinished(store))
        assert store.verify() == []
        for name in store.images():
            assert store.load(name).layers
        for key in (store.path / ".roll/layers").iterdir():
            assert store.known(key.name)
        with store.building():
            assert unfinished(store) == []
    assert left_behind, "no process was killed while it wrote: the test proves nothing"


HOLD_A_FILE = """
store = open_store(Path(sys.argv[1]))
with store.building(), store.new_file() as (out, commit):
    out.write(b"slow")
    out.flush()
    print("ready", flush=True)
    sys.stdin.readline()
    commit("sha256:" + hashlib.sha256(b"slow").hexdigest())
"""


def test_file_of_a_living_writer_is_left_alone(store: Store) -> None:
    child = process(HOLD_A_FILE, store.path)
    wait_for_line(child)
    dead = store.path / ".roll/tmp/dead"
    dead.touch()
    with store.building():
        assert not dead.exists()
        assert len(unfinished(store)) == 1
    child.communicate("go on\n")
    assert child.returncode == 0
    assert store.read(digest(b"slow")) == b"slow"


WORK = """
store = open_store(Path(sys.argv[1]))
with store.building(), store.workdir() as place:
    (place / "deep" / "er").mkdir(parents=True)
    (place / "deep" / "file").touch()
    print("ready", flush=True)
    sys.stdin.readline()
    print((place / "deep" / "file").exists(), flush=True)
"""


def test_work_of_a_living_build_is_left_alone_and_goes_with_it(store: Store) -> None:
    child = process(WORK, store.path)
    wait_for_line(child)
    with store.building():
        assert len(unfinished(store)) == 1
    assert child.communicate("go on\n")[0] == "True\n"
    assert unfinished(store) == []


def test_work_of_a_killed_build_is_removed_by_the_next(store: Store) -> None:
    child = process(WORK, store.path)
    wait_for_line(child)
    child.kill()
    child.communicate()
    assert len(unfinished(store)) == 1
    with store.building():
        assert unfinished(store) == []


WRITE_SMALL = """
store = open_store(Path(sys.argv[1]))
with store.building():
    for number in range(60):
        with store.workdir() as place:
            (place / "x").touch()
        blob = put(store, b"%d" % number)
        store.remember(f"key{number}", blob)
        store.save(image("ref", blob))
"""


def test_build_that_begins_takes_nothing_from_one_at_work(store: Store) -> None:
    child = process(WRITE_SMALL, store.path)
    while child.poll() is None:
        with store.building():
            pass
    finish(child)
    assert len(list((store.path / ".roll/layers").iterdir())) == 60


SAVE_MANY = """
store = open_store(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    store.save(image(f"{sys.argv[2]}{number}", put(store, sys.argv[2].encode())))
"""


def test_processes_that_save_at_once_lose_no_name(store: Store) -> None:
    children = [process(SAVE_MANY, store.path, name) for name in "abc"]
    for child in children:
        wait_for_line(child)
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        finish(child)
    assert sorted(store.images()) == sorted(f"{name}{n}" for name in "abc" for n in range(25))
    assert store.verify() == []


OPEN = """
print("ready", flush=True)
sys.stdin.readline()
while not os.path.exists(sys.argv[2]): time.sleep(0)
for number in range(15):
    open_store(Path(sys.argv[1] + str(number)))
"""


def test_processes_that_make_a_store_at_once_all_get_it(tmp_path: Path) -> None:
    children = [process(OPEN, tmp_path / "store", tmp_path / "go") for _ in range(3)]
    for child in children:
        wait_for_line(child)
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    (tmp_path / "go").touch()
    for child in children:
        finish(child)
    assert all(open_store(tmp_path / f"store{n}", create=False).verify() == [] for n in range(15))


MAKE = """
store = open_store(Path(sys.argv[1]))
log = open(sys.argv[2], "a", buffering=1)
for _ in range(20):
    with store.making("key"):
        log.write(f"begin {os.getpid()}\\n")
        time.sleep(0.001)
        log.write(f"end {os.getpid()}\\n")
"""


def test_one_process_at_a_time_makes_a_layer(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    children = [process(MAKE, store.path, log) for _ in range(3)]
    for child in children:
        finish(child)
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len(lines) == 120
    for begin, end in zip(lines[::2], lines[1::2], strict=True):
        assert (begin[0], end[0], begin[1]) == ("begin", "end", end[1])


def test_threads_make_different_layers_side_by_side_and_one_layer_in_turn(store: Store) -> None:
    inside = threading.Event()

    def second() -> None:
        with store.making("key"):
            inside.set()

    with store.making("key"), store.making("other"):
        thread = threading.Thread(target=second)
        thread.start()
        assert not inside.wait(0.1)
    assert inside.wait(30)
    thread.join()


# -- gc --------------------------------------------------------------------------------------------


def test_gc_keeps_what_an_image_needs_and_removes_the_rest(store: Store) -> None:
    used, unused = add(store, b"used"), add(store, b"unused")
    store.remember("used", used)
    store.remember("unused", unused)
    store.save(image_of("one", used))
    assert store.gc() == Swept(blobs=1, keys=1, bytes=6)
    assert store.verify() == []
    assert store.known("used") == used
    assert store.known("unused") is None
    assert store.load("one").layers[0].blob.digest == used.digest
    assert store.gc() == Swept(0, 0, 0)


def test_gc_removes_the_layers_of_a_name_that_was_built_anew(store: Store) -> None:
    old, new = add(store, b"old"), add(store, b"new")
    store.save(image_of("one", old))
    store.save(image_of("one", new))
    assert store.gc().blobs == 3  # the old layer, config and manifest
    assert not store.has(old.digest, old.size)
    assert store.verify() == []


def test_gc_refuses_while_a_build_is_at_work_and_takes_nothing(store: Store) -> None:
    add(store, b"not named yet")
    child = process(HOLD_A_FILE, store.path)
    wait_for_line(child)
    with pytest.raises(StoreError, match="a build or a push is at work"):
        store.gc()
    assert store.has(digest(b"not named yet"), 13)
    child.communicate("go on\n")
    assert store.gc().blobs == 2


def test_build_refuses_while_gc_is_at_work(store: Store) -> None:
    import fcntl

    with (store.path / ".roll/in-use").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="gc is at work"), store.building():
            pass


def test_builds_do_not_keep_each_other_away(store: Store) -> None:
    with store.building(), open_store(store.path).building():
        pass


def test_gc_of_damaged_blobs_makes_room_for_good_ones(store: Store) -> None:
    good, bad = add(store, b"good"), add(store, b"bad")
    for name, blob in (("good", good), ("bad", bad)):
        store.remember(name, blob)
    store.save(image_of("one", good, bad))
    store.blob_path(bad.digest).write_bytes(b"bat")
    assert store.gc() == Swept(0, 0, 0)
    assert store.gc(damaged=True) == Swept(blobs=1, keys=1, bytes=3)
    assert store.known("bad") is None
    assert store.known("good") == good
    add(store, b"bad")
    assert store.verify() == []


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_gc_with_a_lost_manifest_keeps_the_layers_that_were_made(
    store: Store, harm: str, damaged: bool
) -> None:
    layer, loose = add(store, b"hours of work"), add(store, b"loose")
    store.remember("key", layer)
    value = image_of("one", layer)
    store.save(value)
    manifest = store.blob_path(value.manifest_digest)
    if harm == "flip":
        manifest.write_bytes(manifest.read_bytes().replace(b"layers", b"loyers"))
    else:
        manifest.unlink()
    store.gc(damaged=damaged)
    assert store.known("key") == layer
    assert not store.has(loose.digest, loose.size)
    if damaged:
        store.save(value)
        assert store.verify() == []


def test_gc_removes_unfinished_files_and_locks(store: Store) -> None:
    (store.path / ".roll/tmp/dead").touch()
    with store.making("key"):
        pass
    store.gc()
    assert unfinished(store) == []
    assert not list((store.path / ".roll/locks").iterdir())


# -- verify ----------------------------------------------------------------------------------------


@pytest.fixture
def full(store: Store) -> Store:
    """A store with two images on three layers."""
    base, one, two = (add(store, content) for content in (b"base", b"one", b"two"))
    store.save(image_of("first", base, one))
    store.save(image_of("second", base, two))
    return store


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_verify_finds_every_fault_at_once(full: Store) -> None:
    first, second = full.load("first"), full.load("second")
    flip(full.blob_path(digest(b"base")))
    full.blob_path(digest(b"one")).unlink()
    full.blob_path(digest(b"two")).write_bytes(b"t")
    flip(full.blob_path(first.config_digest))
    full.blob_path(second.config_digest).unlink()
    faults = "\n".join(full.verify())
    for fault in (
        f"blob {digest(b'base')}: its bytes have the digest",
        f"first: layer {digest(b'one')}: missing",
        f"blob {digest(b'two')}: its bytes have the digest",
        f"second: layer {digest(b'two')}: 1 bytes instead of 3",
        f"blob {first.config_digest}: its bytes have the digest",
        f"second: config {second.config_digest}: missing",
    ):
        assert fault in faults
    assert len(full.verify()) == 6


PLACE = Place(Repository("localhost:5000", "roll/cache"), plain_http=True)


def moved(store: Store, content: bytes) -> Remote:
    """The layer with this content, as if it lay elsewhere."""
    remote = Remote("a" * 64, blob_of(content), PLACE)
    store.blob_path(remote.blob.digest).unlink()
    store.note_remotes([remote])
    return remote


def test_layer_that_lies_elsewhere_is_known_and_not_missing(full: Store) -> None:
    remote = moved(full, b"one")
    assert full.remotes() == {remote.blob.digest: remote}
    assert open_store(full.path).remotes() == full.remotes()
    assert full.verify() == []
    assert full.known(remote.key) is None
    assert full.load("first").layers[1].blob.unpacked == 3


def test_layer_that_came_home_lies_elsewhere_no_more(full: Store) -> None:
    moved(full, b"one")
    add(full, b"one")
    assert full.remotes() == {}


def test_layers_noted_later_do_not_drive_out_the_earlier(full: Store) -> None:
    first = moved(full, b"one")
    second = Remote("b" * 64, blob_of(b"two"), PLACE)
    full.blob_path(second.blob.digest).unlink()
    full.note_remotes([second])
    assert set(full.remotes()) == {first.blob.digest, second.blob.digest}


def test_gc_forgets_layers_elsewhere_that_no_image_needs(full: Store) -> None:
    needed = moved(full, b"one")
    full.note_remotes([Remote("b" * 64, blob_of(b"of no image"), PLACE)])
    full.gc()
    assert set(full.remotes()) == {needed.blob.digest}
    assert full.verify() == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"layers": [{}]}', b"5",
                                     b'{"layers": [{"key": "a", "place": 5}]}'])  # fmt: skip
def test_damaged_note_of_remote_layers_makes_them_missing(full: Store, content: bytes) -> None:
    remote = moved(full, b"one")
    (full.path / ".roll" / "remotes.json").write_bytes(content)
    assert full.remotes() == {}
    assert full.verify() == [f"first: layer {remote.blob.digest}: missing"]
    full.note_remotes([remote])
    assert full.verify() == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"nonsense", b'{"manifests": 5}', b"\xff",
                                     b'{"manifests": [5]}', b'{"manifests": [{}]}',
                                     b'{"manifests": [{"digest": "x", "size": 1}]}'])  # fmt: skip
def test_verify_lists_a_broken_index_beside_damaged_blobs(full: Store, content: bytes) -> None:
    flip(full.blob_path(digest(b"base")))
    (full.path / "index.json").write_bytes(content)
    faults = full.verify()
    assert len(faults) == 2
    assert "index.json: not an OCI image index" in faults[1]
    for use in (full.images, full.gc, lambda: full.load("first")):
        with pytest.raises(StoreError, match="not an OCI image index"):
            use()


def test_verify_lists_a_missing_index(full: Store) -> None:
    (full.path / "index.json").unlink()
    assert len(full.verify()) == 1


@pytest.mark.parametrize("document", ["manifest", "config"])
def test_no_flipped_bit_of_a_document_escapes_verify_or_breaks_it(
    full: Store, document: str
) -> None:
    value = full.load("first")
    path = full.blob_path(value.manifest_digest if document == "manifest" else value.config_digest)
    content = path.read_bytes()
    rng = random.Random(3)
    for position in range(len(content)):
        path.write_bytes(
            content[:position]
            + bytes([content[position] ^ 1 << rng.randrange(8)])
            + content[position + 1 :]
        )
        assert any(path.name in fault for fault in full.verify())
        with pytest.raises((IntegrityError, StoreError)):
            full.load("first")


def test_no_flipped_bit_of_the_index_breaks_verify(full: Store) -> None:
    index = full.path / "index.json"
    content = index.read_bytes()
    for position in range(len(content)):
        index.write_bytes(
            content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :]
        )
        full.verify()
        with suppress(StoreError):
            full.images()


@pytest.mark.parametrize(
    "manifest",
    [[], 5, None, {}, {"config": None}, {"config": {}}, {"config": {"digest": 5, "size": 1}},
     {"layers": None}, {"layers": [5]}, {"layers": [{"digest": "sha256:x", "size": 1}]},
     {"manifests": [{}]}],
)  # fmt: skip
def test_foreign_documents_under_a_true_digest_break_nothing(store: Store, manifest: Any) -> None:
    content = json.dumps(manifest).encode()
    store.put(content)
    entry = {
        "digest": digest(content),
        "size": len(content),
        "annotations": {"org.opencontainers.image.ref.name": "foreign"},
    }
    (store.path / "index.json").write_text(json.dumps({"manifests": [entry]}))
    store.verify()
    store.gc()
    assert store.read(digest(content)) == content
    with pytest.raises((IntegrityError, StoreError)):
        store.load("foreign")


def test_verify_tells_bytes_as_it_reads_them(full: Store) -> None:
    told: list[int] = []
    full.verify(told.append)
    assert sum(told) == full.size()


def test_load_of_an_unknown_name_says_how_to_build_it(full: Store) -> None:
    with pytest.raises(UsageError, match="holds no image third") as error:
        full.load("third")
    assert error.value.remedy == "python build.py --target third"


# -- places ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["with space", "ünïcødé 文件", "-dash", "new\nline", "quote'\""])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    store = open_store(tmp_path / name / "deep")
    store.save(image_of("one", add(store, b"1")))
    assert open_store(tmp_path / name / "deep", create=False).load("one")
    assert store.verify() == []


def test_relative_path_keeps_its_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(Path("here"))
    monkeypatch.chdir("/")
    store.put(b"x")
    assert (tmp_path / "here/blobs/sha256" / digest(b"x")[7:]).exists()


def foreign_directory(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("mine")


def foreign_index(path: Path) -> None:
    path.mkdir()
    (path / "index.json").write_text('{"a web site": "of somebody"}')


def foreign_file(path: Path) -> None:
    path.write_text("mine")


def foreign_blobs(path: Path) -> None:
    (path / "blobs").mkdir(parents=True)
    (path / "blobs" / "photo.raw").write_text("mine")


@pytest.mark.parametrize("make", [foreign_directory, foreign_index, foreign_file, foreign_blobs])
def test_what_belongs_to_somebody_else_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    place = tmp_path / "place"
    make(place)
    before = files(tmp_path)
    with pytest.raises(StoreError, match="not an OCI image layout") as error:
        open_store(place)
    assert "--store" in (error.value.remedy or "")
    assert files(tmp_path) == before


def test_store_whose_making_was_cut_short_is_made_whole(tmp_path: Path) -> None:
    whole = open_store(tmp_path / "whole").path
    steps = ["oci-layout", "index.json", "blobs", ".roll/tmp", ".roll/locks", ".roll/layers"]
    for count in range(1, len(steps) + 1):
        part = tmp_path / f"part{count}"
        shutil.copytree(whole, part)
        for step in steps[:count]:
            path = part / step
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert open_store(part).verify() == []
        assert files(part).keys() >= files(whole).keys() - {".roll/index-lock"}


def test_store_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no store there"):
        open_store(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


def test_layout_of_another_tool_is_taken(tmp_path: Path) -> None:
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    store = open_store(tmp_path)
    store.save(image_of("one", add(store, b"1")))
    assert store.verify() == []


def test_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used") as error:
        open_store(tmp_path / "file" / "store")
    assert "--store" in (error.value.remedy or "")


def test_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        open_store(tmp_path / ("n" * 300))


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that any user can enter; pytest's own are for one user alone."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


TRY = """
from images.errors import StoreError
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    store = open_store(Path(sys.argv[1]), create=sys.argv[2] == "create")
    if sys.argv[2] == "read":
        print(store.read(store.put(b"x")), store.verify(), store.images())
    else:
        with store.building():
            put(store, b"new")
except StoreError as error:
    print("StoreError", error.message, "|", error.remedy)
"""


def as_nobody(path: Path, how: str) -> str:
    if os.geteuid():
        pytest.skip("only root can become another user")
    return finish(process(TRY, path, how))


def test_directory_that_may_not_be_written_is_refused_with_a_remedy(public: Path) -> None:
    store = open_store(public / "store")
    store.put(b"x")
    for path in (public / "store", public / "new", public / "a" / "b" / "c"):
        said = as_nobody(path, "create")
        assert said.startswith(f"StoreError {path}: the store cannot be used"), said
        assert "Permission denied" in said
        assert "--store DIR" in said


def test_directory_that_may_not_be_written_can_be_read(public: Path) -> None:
    store = open_store(public / "store")
    store.put(b"x")
    assert as_nobody(store.path, "read") == "b'x' [] {}\n"


def test_full_disk_is_an_error_with_a_remedy_and_keeps_what_was_finished(tiny_disk: Path) -> None:
    store = open_store(tiny_disk / "store")
    kept = add(store, bytes(400_000))
    store.save(image_of("one", kept))
    loose = add(store, bytes(300_000))
    with pytest.raises(StoreError, match="no space left") as error, store.building():
        add(store, os.urandom(600_000))
    assert "gc" in (error.value.remedy or "")
    assert unfinished(store) == []
    assert store.verify() == []
    assert store.gc().bytes == loose.size
    add(store, os.urandom(500_000))


def test_full_disk_that_is_not_the_stores_is_not_blamed_on_it(
    store: Store, tiny_disk: Path
) -> None:
    big = store.path.with_name("big")
    big.write_bytes(bytes(2 << 20))
    with pytest.raises(OSError, match="No space left") as error, store.building():
        shutil.copyfile(big, tiny_disk / "big")
    assert not isinstance(error.value, StoreError)


def test_full_disk_under_a_copy_from_elsewhere_is_the_stores(
    tmp_path: Path, tiny_disk: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(2 << 20))
    store = open_store(tiny_disk / "store")
    with pytest.raises(StoreError, match="no space left"), store.workdir() as place:
        shutil.copyfile(big, place / "big")


def test_store_on_a_disk_without_any_room_is_refused(tiny_disk: Path) -> None:
    with suppress(OSError), (tiny_disk / "fill").open("wb", buffering=0) as out:
        for _ in range(300):
            out.write(bytes(4096))
    with pytest.raises(StoreError, match="no space left"):
        open_store(tiny_disk / "store")


def test_paths_of_a_store_name_no_user_and_no_process(store: Store) -> None:
    """What is kept must not tell of the builder."""
    store.save(image_of("one", add(store, b"1")))
    told = b"".join(files(store.path).values())
    assert str(store.path).encode() not in told
