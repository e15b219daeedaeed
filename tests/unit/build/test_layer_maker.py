"""Making layers: real downloads, a real store, and failures that are reported as what they are."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.errors import FetchError, IntegrityError, StoreError
from images.oci.layer.entry import Entry, of_bytes
from images.oci.store.store import open_store
from images.util import programs, progress
from images.util.programs import Programs
from tests.unit.build_setup import BuildSetup, failure


def test_file_that_is_gone_is_reported_as_such(setup: BuildSetup) -> None:
    gone = setup.file("gone.whl")
    del setup.server.files["/gone.whl"]
    error = failure(setup, [setup.recipe("one", [gone])])
    assert isinstance(error, FetchError)
    assert "HTTP 404" in error.message
    assert setup.made == []


def test_all_files_that_are_gone_are_listed(setup: BuildSetup) -> None:
    gone = [setup.file(f"gone{number}.whl", bytes([number])) for number in range(3)]
    for item in gone:
        del setup.server.files[f"/{item.name}"]
    error = failure(setup, [setup.recipe(item.name, [item]) for item in gone])
    assert all(item.name in error.message for item in gone)


def test_offline_build_makes_no_request_and_names_what_is_missing(setup: BuildSetup) -> None:
    here, gone = setup.file("here.whl", b"1"), setup.file("gone.whl", b"2")
    setup.make([setup.recipe("first", [here])])
    setup.server.seen.clear()
    setup.options = dataclasses.replace(setup.options, offline="build.py fetch --all")
    error = failure(setup, [setup.recipe("one", [here, gone])])
    assert isinstance(error, FetchError)
    assert "1 files that the build needs" in error.message
    assert "gone.whl==1.0: gone.whl" in error.message
    assert "here.whl" not in error.message
    assert error.remedy == "where there is a network: build.py fetch --all"
    assert setup.server.seen == []
    assert len(setup.make([setup.recipe("two", [here])])) == 1


def test_wrong_bytes_are_worse_than_a_lost_file(setup: BuildSetup) -> None:
    gone, wrong = setup.file("gone.whl", b"1"), setup.file("wrong.whl", b"2")
    del setup.server.files["/gone.whl"]
    setup.server.files["/wrong.whl"] = b"3"
    error = failure(setup, [setup.recipe("a", [gone]), setup.recipe("b", [wrong])])
    assert isinstance(error, IntegrityError)


def test_failed_layer_keeps_those_that_were_finished(setup: BuildSetup) -> None:
    def broken() -> Iterator[Entry]:
        yield Entry("short", size=5)

    good = setup.recipe("good", [setup.file("a.whl")])
    setup.make([good])
    error = failure(setup, [good, setup.recipe("bad", extra=broken)])
    assert isinstance(error, IntegrityError)
    assert error.message == "layer bad: short: 5 bytes short"
    assert "pin another version" in str(error.remedy)
    assert setup.options.store.layer_keys.known(good.key)


def test_failed_layer_stops_the_others(setup: BuildSetup) -> None:
    """A layer that would go on for ever is given up when another one fails."""
    begun = threading.Event()

    def endless() -> Iterator[Entry]:
        begun.set()
        number = 0
        while True:
            number += 1
            yield of_bytes(f"file{number}", b"x" * 10_000)

    def broken() -> Iterator[Entry]:
        assert begun.wait(60)
        yield Entry("short", size=5)

    error = failure(
        setup, [setup.recipe("endless", extra=endless), setup.recipe("bad", extra=broken)]
    )
    assert "short" in error.message


def test_failed_layer_ends_what_another_one_waits_for(setup: BuildSetup) -> None:
    """A compiler takes minutes, and what it makes would be given up."""
    reading, writing = os.pipe()

    def compiled() -> Iterator[Entry]:
        with os.fdopen(writing, "wb") as output:
            programs.run(["sh", "-c", "echo begun; sleep infinity"], stdout=output)
        yield of_bytes("file", b"")

    def broken() -> Iterator[Entry]:
        assert os.read(reading, 5) == b"begun"
        yield Entry("short", size=5)

    recipes = [setup.recipe("compiled", extra=compiled), setup.recipe("bad", extra=broken)]
    assert "short" in failure(setup, recipes).message
    os.close(reading)


def test_interrupt_while_programs_are_ended_leaves_no_thread(
    setup: BuildSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Programs) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Programs, "end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        setup.make([setup.recipe("bad", extra=lambda: iter([Entry("short", size=5)]))])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("layer")]


def test_full_disk_while_a_layer_is_made_is_a_store_error(
    setup: BuildSetup, tiny_disk: Path
) -> None:
    setup.options = dataclasses.replace(setup.options, store=open_store(tiny_disk / "store"))
    recipe = setup.recipe("big", extra=lambda: iter([of_bytes("f", os.urandom(2 << 20))]))
    error = failure(setup, [recipe])
    assert isinstance(error, StoreError)
    assert "no space left" in error.message


def test_progress_of_files_and_layers_adds_up(setup: BuildSetup) -> None:
    setup.server.faults["/a.whl"] = [503, "drop"]
    files = [setup.file("a.whl"), setup.file("b.whl", b"b" * 5000)]
    setup.make([setup.recipe("one", files), setup.recipe("two", files[:1])])
    lines = setup.out.getvalue()
    assert "fetch: 23 kB in" in lines
    assert "layers: 41 kB in" in lines
    assert "made one" in lines


def test_layer_is_not_shown_as_done_before_it_is_on_the_disk(
    setup: BuildSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes were estimated, here far too low: the bar ends with the work, not before it."""
    monkeypatch.setattr(progress, "_QUIET", 0.0)
    more = [of_bytes("f", bytes(1_000_000))]
    setup.make([setup.recipe("deep", [setup.file("a.whl", bytes(10_000))], lambda: iter(more))])
    lines = [line for line in setup.out.getvalue().splitlines() if line.startswith("layers: ")]
    assert lines[-3:-1] == ["layers: 9.5 kB of 10 kB; making deep", "layers: 10 kB of 10 kB"]
