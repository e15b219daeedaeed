"""Where a store may be, and how a place that will not do is told."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from images.errors import StoreError, UsageError
from images.oci.descriptor import digest_of
from images.oci.store.maintenance import gc, verify
from images.oci.store.store import Store, open_store
from tests.unit.oci.store.conftest import add, files, finish, image_of, process, unfinished


@pytest.mark.parametrize("name", ["with space", "ünïcødé 文件", "-dash", "new\nline", "quote'\""])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    store = open_store(tmp_path / name / "deep")
    store.save(image_of("one", add(store, b"1")))
    assert open_store(tmp_path / name / "deep", create=False).load("one")
    assert verify(store) == []


def test_relative_path_keeps_its_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(Path("here"))
    monkeypatch.chdir("/")
    store.blobs.put(b"x")
    assert (tmp_path / "here/blobs/sha256" / digest_of(b"x")[7:]).exists()


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
        assert verify(open_store(part)) == []
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
    assert verify(store) == []


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


def test_directory_that_may_not_be_written_is_refused_with_a_remedy(public: Path) -> None:
    store = open_store(public / "store")
    store.blobs.put(b"x")
    for path in (public / "store", public / "new", public / "a" / "b" / "c"):
        said = as_nobody(path, "create")
        assert said.startswith(f"StoreError {path}: the store cannot be used"), said
        assert "Permission denied" in said
        assert "--store DIR" in said


def test_directory_that_may_not_be_written_can_be_read(public: Path) -> None:
    store = open_store(public / "store")
    store.blobs.put(b"x")
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
    assert verify(store) == []
    assert gc(store).bytes == loose.size
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
