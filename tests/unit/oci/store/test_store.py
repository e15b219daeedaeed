"""Images of a store: a standard layout, from which they are loaded as they were saved."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from images.errors import StoreError, UsageError
from images.oci.descriptor import Blob, digest_of
from images.oci.store.maintenance import verify
from images.oci.store.store import Store, open_store
from tests.unit.stores import add, files, image_of, unfinished


def test_new_store_is_an_empty_oci_layout(store: Store) -> None:
    assert json.loads((store.path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((store.path / "index.json").read_bytes()) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    }
    assert verify(store) == []
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
    assert config["rootfs"]["diff_ids"] == [digest_of(b"layer")]
    assert document["layers"][0]["digest"] == digest_of(b"layer")


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_skopeo_reads_the_layout(store: Store) -> None:
    store.save(image_of("one", add(store, b"layer")))
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{store.path}:one"], capture_output=True, check=True
    )
    assert digest_of(done.stdout) == store.images()["one"]


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


def test_image_can_be_read_without_its_layers(store: Store) -> None:
    """A machine with an unpacked root file system needs the documents alone."""
    one = image_of("one", add(store, b"1"), add(store, b"2"))
    store.save(one)
    for layer in one.layers:
        store.blobs.path(layer.blob.digest).unlink()
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


def test_unknown_image_is_reported_with_the_command_that_builds_it(full: Store) -> None:
    with pytest.raises(UsageError, match="holds no image third") as error:
        full.load("third")
    assert error.value.remedy == "python build.py --target third"


def test_several_images_are_loaded_with_each_key_read_once(
    full: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"base", b"one", b"two"):
        full.layer_keys.remember(hashlib.sha256(content).hexdigest(), add(full, content))
    read: list[str] = []
    known = full.layer_keys.known

    def counted(key: str) -> Blob | None:
        read.append(key)
        return known(key)

    monkeypatch.setattr(full.layer_keys, "known", counted)
    assert [image.ref for image in full.load_several(["second", "first"])] == ["second", "first"]
    assert [image.layers[1].blob.unpacked for image in full.load_all()[0]] == [3, 3]
    assert len(read) == 2 * 3


@pytest.mark.parametrize("name", ["with space", "ünïcødé 文件", "-dash", "new\nline", "quote'\""])
def test_any_path_is_accepted(tmp_path: Path, name: str) -> None:
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
    (path / "index.json").write_text('{"a web site": "of another program"}')


def foreign_file(path: Path) -> None:
    path.write_text("mine")


def foreign_blobs(path: Path) -> None:
    (path / "blobs").mkdir(parents=True)
    (path / "blobs" / "photo.raw").write_text("mine")


@pytest.mark.parametrize("make", [foreign_directory, foreign_index, foreign_file, foreign_blobs])
def test_directory_of_other_files_is_refused_and_left_alone(
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


def test_missing_store_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no store there"):
        open_store(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


def test_layout_of_another_tool_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    store = open_store(tmp_path)
    store.save(image_of("one", add(store, b"1")))
    assert verify(store) == []


def test_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used") as error:
        open_store(tmp_path / "file" / "store")
    assert "--store" in (error.value.remedy or "")


def test_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        open_store(tmp_path / ("n" * 300))


def test_paths_of_a_store_name_no_user_and_no_process(store: Store) -> None:
    """A store must not reveal who built it."""
    store.save(image_of("one", add(store, b"1")))
    content = b"".join(files(store.path).values())
    assert str(store.path).encode() not in content
