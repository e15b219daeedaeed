"""Unpacking that is killed, interrupted, or has no space: the same command resumes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from images.oci.image import Image
from images.oci.layer.entry import Entry, of_bytes
from images.oci.store import store
from images.oci.store.maintenance import verify
from images.oci.store.store import Store
from images.util.progress import Progress
from tests import directories
from tests.image import unpack
from tests.unit import bundles
from tests.unit.bundles import make, record, run, tree


def killed_soon(command: list[str], after: float) -> int:
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
    ) as running:
        time.sleep(after)
        running.send_signal(signal.SIGKILL)
        return running.wait()


@pytest.mark.parametrize("more", [(), ("--remove-parts",), ("--layout", "layout")])
def test_killed_at_any_moment_it_resumes(
    small: tuple[Store, Image], tmp_path: Path, more: tuple[str, ...]
) -> None:
    """Kills are spread over the time that a whole run takes, whatever the machine."""
    layout, _ = small
    many = [of_bytes(f"many/{number}", bundles.noise(30_000, number)) for number in range(400)]
    links = [Entry(f"links/{number}", "hardlink", target="many/0") for number in range(50)]
    blobs = [bundles.add(layout, many[:200]), bundles.add(layout, [*many, *links])]
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
            assert verify(found) == []
            assert not list((tmp_path / f"l{attempt}" / "blobs" / "sha256").glob("*.new"))


AT_FILE = """
import os, runpy, signal, sys
calls, place, sys.argv = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
def audit(event, arguments):
    global calls
    at_place = arguments and str(arguments[0]).startswith(place)
    if at_place and event in ("open", "os.rename", "os.mkdir", "os.remove", "os.chmod"):
        calls -= 1
        if calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(audit)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_killed_at_every_file_it_resumes(out: Path, tmp_path: Path, expected: object) -> None:
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
        directories.remove(tmp_path / "there")
    assert cut.returncode == 0, cut.stderr
    assert steps > 30
    assert verify(store.open_store(tmp_path / "there/layout", create=False)) == []


def test_interrupted_by_the_user(out: Path, tmp_path: Path) -> None:
    with at_work(out, "--rootfs", tmp_path / "root") as running:
        running.send_signal(signal.SIGINT)
        _, said = running.communicate()
    assert running.returncode == 130
    assert b"run the same command again to resume" in said
    assert b"Traceback" not in said
    assert run(out, "--rootfs", tmp_path / "root").code == 0


@contextmanager
def at_work(out: Path, option: str, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run that stays in the middle of its first layers until the block ends."""
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
from images.unbundle import cli
from images.unbundle.sources import layer_source
def find(self, layer):
    os.write(1, b"at work\\n")  # unbuffered: several threads take layers
    time.sleep(1000)
layer_source.LayerSources.find = find
sys.exit(cli.main())
"""


@pytest.mark.parametrize("option", ["--rootfs", "--layout"])
def test_two_runs_at_once_do_not_meet(out: Path, tmp_path: Path, option: str) -> None:
    with at_work(out, option, tmp_path / "place"):
        done = run(out, option, tmp_path / "place")
    assert done.code == 2
    assert "another run is writing there" in done.said
    assert run(out, option, tmp_path / "place").code == 0


def test_full_disk_is_reported_and_the_same_command_resumes(
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


def test_a_record_of_another_program_is_refused(out: Path, tmp_path: Path) -> None:
    (tmp_path / "root.json").write_text("[]")
    done = run(out, "--rootfs", tmp_path / "root")
    assert done.code == 2
    assert "root.json" in done.said
