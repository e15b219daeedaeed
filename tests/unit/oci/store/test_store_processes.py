"""Processes that work on one store at once, killed or not: it is valid at every moment."""

from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path

from images.oci.descriptor import digest_of
from images.oci.store.maintenance import verify
from images.oci.store.store import Store, open_store
from tests.unit.stores import HOLD_A_FILE, finish, process, unfinished, wait_for_line

WRITE_WITHOUT_END = """
store = open_store(Path(sys.argv[1]))
with store.building():
    print("ready", flush=True)
    number = 0
    while True:
        number += 1
        blob = put(store, os.urandom(300_000))
        store.layer_keys.remember(f"key{number}", blob)
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
        assert verify(store) == []
        for name in store.images():
            assert store.load(name).layers
        for key in (store.path / ".roll/layers").iterdir():
            assert store.layer_keys.known(key.name)
        with store.building():
            assert unfinished(store) == []
    assert left_behind, "no process was killed while it wrote: the test proves nothing"


def test_file_of_a_running_writer_is_left_alone(store: Store) -> None:
    child = process(HOLD_A_FILE, store.path)
    wait_for_line(child)
    dead = store.path / ".roll/tmp/dead"
    dead.touch()
    with store.building():
        assert not dead.exists()
        assert len(unfinished(store)) == 1
    child.communicate("go on\n")
    assert child.returncode == 0
    assert store.blobs.read(digest_of(b"slow")) == b"slow"


WORK = """
store = open_store(Path(sys.argv[1]))
with store.building(), store.workdir() as place:
    (place / "deep" / "er").mkdir(parents=True)
    (place / "deep" / "file").touch()
    print("ready", flush=True)
    sys.stdin.readline()
    print((place / "deep" / "file").exists(), flush=True)
"""


def test_work_of_a_running_build_is_left_alone_and_goes_with_it(store: Store) -> None:
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
        store.layer_keys.remember(f"key{number}", blob)
        store.save(image("ref", blob))
"""


def test_build_that_begins_removes_nothing_of_a_running_one(store: Store) -> None:
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
    assert verify(store) == []


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
    assert all(verify(open_store(tmp_path / f"store{n}", create=False)) == [] for n in range(15))


MAKE = """
store = open_store(Path(sys.argv[1]))
log = open(sys.argv[2], "a", buffering=1)
for _ in range(20):
    with store.layer_keys.making("key"):
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
        with store.layer_keys.making("key"):
            inside.set()

    with store.layer_keys.making("key"), store.layer_keys.making("other"):
        thread = threading.Thread(target=second)
        thread.start()
        assert not inside.wait(0.1)
    assert inside.wait(30)
    thread.join()
