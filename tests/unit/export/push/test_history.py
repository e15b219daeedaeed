"""What a store remembers of its pushes is a hint, and never in the way."""

from __future__ import annotations

import pytest

from images.errors import StoreError
from images.export.push import history
from images.oci.reference import Repository
from images.oci.store.maintenance import gc, verify
from images.oci.store.store import Store

APP = Repository("host.example", "team/app")


def test_each_repository_of_a_registry_is_remembered(store: Store) -> None:
    one, two = store.blobs.put(b"1"), store.blobs.put(b"2")
    history.note(store, APP, [one, two])
    history.note(store, Repository("host.example", "team/other"), [one])
    history.note(store, Repository("else.example", "team/app"), [two])
    assert history.known(store, "host.example") == {"team/app": {one, two}, "team/other": {one}}
    assert history.known(store, "nowhere.example") == {}


def test_digests_add_up_until_the_store_no_longer_has_them(store: Store) -> None:
    one, two, three = (store.blobs.put(content) for content in (b"1", b"2", b"3"))
    history.note(store, APP, [one, two])
    store.blobs.path(one).unlink()
    history.note(store, APP, [three])
    assert history.known(store, "host.example") == {"team/app": {two, three}}


def test_last_image_of_a_repository_stays_until_the_next(store: Store) -> None:
    assert history.last_image(store, APP) is None
    one, two = store.blobs.put(b"1"), store.blobs.put(b"2")
    history.note(store, APP, [one])
    assert history.last_image(store, APP) is None
    history.note(store, APP, [one], "sha256:1")
    history.note(store, APP, [two])
    assert history.last_image(store, APP) == "sha256:1"
    history.note(store, APP, [one], "sha256:2")
    assert history.last_image(store, APP) == "sha256:2"
    assert history.last_image(store, Repository("host.example", "team/other")) is None


def test_nothing_new_writes_nothing(store: Store) -> None:
    digest = store.blobs.put(b"1")
    history.note(store, APP, [digest])
    (path,) = (store.path / ".roll" / "pushed").iterdir()
    before = path.stat().st_ino
    history.note(store, APP, [digest])
    assert path.stat().st_ino == before


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"registry": "host.example", "repository": "team/app", "blobs": 1}',
     '{"registry": "host.example", "repository": "team/app", "blobs": ["../x"]}'],
)  # fmt: skip
def test_damaged_record_is_ignored(store: Store, content: str) -> None:
    digest = store.blobs.put(b"1")
    history.note(store, APP, [digest])
    (path,) = (store.path / ".roll" / "pushed").iterdir()
    path.write_text(content)
    history.note(store, APP, [digest])
    assert history.known(store, "host.example") == {"team/app": {digest}}


def test_read_only_store_keeps_no_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(store.files, "write", full)
    history.note(store, APP, [store.blobs.put(b"1")])
    assert history.known(store, "host.example") == {}


def test_gc_and_verify_leave_it_alone(store: Store) -> None:
    history.note(store, APP, [store.blobs.put(b"1")])
    gc(store)
    assert verify(store) == []
    assert "team/app" in history.known(store, "host.example")
