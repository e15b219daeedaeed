"""Files of a store: disks without room or permission, locks, and private files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from images.errors import BuildError, StoreError
from images.oci.store.maintenance import gc, verify
from images.oci.store.store import Store, open_store
from tests.unit.stores import add, finish, image_of, process, unfinished


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that any user can enter; pytest's own are for one user alone."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


TRY = """
from images.errors import StoreError
from images.oci.store.maintenance import verify
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    store = open_store(Path(sys.argv[1]), create=sys.argv[2] == "create")
    if sys.argv[2] == "read":
        print(store.blobs.read(store.blobs.put(b"x")), verify(store), store.images())
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


def test_directory_without_write_permission_is_refused_with_a_fix(public: Path) -> None:
    store = open_store(public / "store")
    store.blobs.put(b"x")
    for path in (public / "store", public / "new", public / "a" / "b" / "c"):
        output = as_nobody(path, "create")
        assert output.startswith(f"StoreError {path}: the store cannot be used"), output
        assert "Permission denied" in output
        assert "--store DIR" in output


def test_directory_without_write_permission_can_be_read(public: Path) -> None:
    store = open_store(public / "store")
    store.blobs.put(b"x")
    assert as_nobody(store.path, "read") == "b'x' [] {}\n"


def test_full_disk_is_reported_with_a_fix_and_finished_blobs_are_kept(tiny_disk: Path) -> None:
    store = open_store(tiny_disk / "store")
    kept = add(store, bytes(400_000))
    store.save(image_of("one", kept))
    loose = add(store, bytes(300_000))
    with pytest.raises(StoreError, match="no space left") as error, store.building():
        add(store, os.urandom(600_000))
    assert "gc" in (error.value.remedy or "")
    assert unfinished(store) == []
    assert verify(store) == []
    assert gc(store).bytes == loose.size
    add(store, os.urandom(500_000))


def test_another_full_disk_is_not_reported_as_the_stores(store: Store, tiny_disk: Path) -> None:
    big = store.path.with_name("big")
    big.write_bytes(bytes(2 << 20))
    with pytest.raises(OSError, match="No space left") as error, store.building():
        shutil.copyfile(big, tiny_disk / "big")
    assert not isinstance(error.value, StoreError)


def test_disk_that_a_copy_into_the_store_fills_is_reported(tmp_path: Path, tiny_disk: Path) -> None:
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


@pytest.mark.parametrize("lock", ["in-use", "index-lock", "locks/key"])
def test_lock_that_is_a_pipe_or_a_link_is_refused(full: Store, tmp_path: Path, lock: str) -> None:
    path = full.path / ".roll" / lock
    path.unlink(missing_ok=True)

    def use() -> None:
        with full.building(), full.layer_keys.making("key"):
            full.save(image_of("third", add(full, b"3")))

    for planted in ("pipe", "link"):
        if planted == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(BuildError):
            use()
        path.unlink()
    assert not (tmp_path / "elsewhere").exists()
    use()


def test_private_files_are_kept_whole(store: Store) -> None:
    assert store.files.read("notes/a.json") is None
    assert store.files.names("notes") == []
    store.files.write("notes/b.json", b"2")
    store.files.write("notes/a.json", b"1")
    store.files.write("notes/a.json", b"3")
    assert store.files.names("notes") == ["notes/a.json", "notes/b.json"]
    assert store.files.read("notes/a.json") == b"3"
    assert unfinished(store) == []


def test_private_file_that_is_a_pipe_is_not_read(store: Store) -> None:
    os.mkfifo(store.files.private / "note")
    assert store.files.read("note") is None
