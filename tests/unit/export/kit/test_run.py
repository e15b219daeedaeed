"""The program of a kit, with real bundles and processes; a stand-in is where a GPU is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from images.export.kit import document
from tests.unit import kits
from tests.unit.kits import MadeKit
from tests.unit.small_matrix import A, B, two_targets
from tests.unit.waiting import wait_until


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> MadeKit:
    """A kit of two images, whose suite is unpacked and compiled."""
    place = tmp_path_factory.mktemp("kit")
    made = kits.make(two_targets(place), place, "052", "055", stand_in=False)
    assert "--seconds" in made.run("--help").out
    return made


@pytest.fixture
def made(whole: MadeKit, tmp_path: Path) -> MadeKit:
    return kits.with_stand_in(copied(whole, tmp_path), tmp_path / "stand-in")


def copied(whole: MadeKit, place: Path) -> Path:
    """A kit of its own, but for the unpacked suite."""
    shutil.copytree(whole.path, place / "kit", ignore=lambda *_: ["work"])
    unpacked(place / "kit", whole)
    return place / "kit"


def unpacked(kit: Path, whole: MadeKit) -> None:
    (suite,) = whole.path.glob("work/suite-*")
    (kit / "work").mkdir()
    (kit / "work" / suite.name).symlink_to(suite)


def table(out: str) -> dict[str, str]:
    """The results by target."""
    return {row.split()[0]: row.split("  ", 1)[1].strip() for row in out.splitlines()[1:]}


def images_left(made: MadeKit) -> list[Path]:
    return [*made.path.glob("work/image-*"), *made.path.glob("work/removed-*")]


def test_all_are_proven_and_not_twice(made: MadeKit, whole: MadeKit) -> None:
    done = made.run()
    assert done.code == 0, done.said
    assert {name: "proven" in row for name, row in table(done.out).items()} == {A: True, B: True}
    assert "H200" in done.out
    assert not images_left(made)
    again = made.run()
    assert again.code == 0
    assert made.ran() == [A, B]
    # A bare machine, with the evidence so far: the second bundle leaves out layers of the first.
    shutil.rmtree(made.path / "work")
    unpacked(made.path, whole)
    (made.evidence / f"{B}.json").unlink()
    out = made.path.parent / "out"
    done = made.run("--evidence", out, "--remove-parts")
    assert done.code == 0, done.said
    assert made.ran() == [A, B, B]
    assert sorted(path.name for path in out.glob("*.json")) == [f"{A}.json", f"{B}.json"]
    assert not [*made.path.glob("bundles/*/part-*")]


def test_a_killed_run_is_resumed_and_takes_its_tests_with_it(made: MadeKit) -> None:
    made.behave(v055="wait")
    with made.start("--remove-parts") as process:
        wait_until(lambda: made.ran() == [A, B])
        second = made.run()
        process.kill()
    assert second.code == 2
    assert "another run works there" in second.said
    wait_until(lambda: not running(made))
    assert len(images_left(made)) == 1
    with made.start() as process:
        wait_until(lambda: made.ran() == [A, B, B])
        process.terminate()
        assert process.wait() == 130
    assert not running(made)
    made.behave()
    done = made.run()
    assert done.code == 0, done.said
    assert f"{B}: unpack" not in done.said
    assert made.ran() == [A, B, B, B]
    assert not images_left(made)


def running(made: MadeKit) -> list[int]:
    """The processes with the stand-in in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if os.fsencode(made.tests) in words:
            found.append(int(path.parent.name))
    return found


def test_a_failure_and_missing_parts_stop_no_other_image(made: MadeKit) -> None:
    made.behave(v052="fail")
    last = max(made.path.glob(f"bundles/{B}/part-*"))
    away = last.rename(made.path.parent / last.name)
    done = made.run()
    assert done.code == 10
    assert "1 failed on H200" in table(done.out)[A]
    assert "parts have not arrived" in table(done.out)[B]
    assert not images_left(made)
    away.rename(last)
    made.behave()
    done = made.run()
    assert done.code == 0, done.said
    assert made.ran() == [A, B, A]  # the failure comes last


def test_a_damaged_part_is_the_fault_of_its_own_image(made: MadeKit) -> None:
    part = min(made.path.glob(f"bundles/{A}/part-*"))
    good = part.read_bytes()
    part.write_bytes(bytes(len(good)))
    done = made.run()
    assert done.code == 10
    assert "unpacking: exit code 6" in table(done.out)[A]
    assert "parts have not arrived" in table(done.out)[B]
    part.write_bytes(good)
    assert made.run().code == 0


def test_what_is_missing_is_asked_for_again_when_something_arrived(
    made: MadeKit, capfd: pytest.CaptureFixture[str]
) -> None:
    last = max(made.path.glob(f"bundles/{B}/part-*"))
    away = last.rename(made.path.parent / last.name)
    session = kits.session(document.read(made.path), made.path)

    def unpacked() -> list[str]:
        assert session.prove(1).waits
        said = capfd.readouterr().err
        return re.findall(r"(?m)^ +\d+ s  (.+): unpack$", said)

    assert unpacked() == [A, B]
    assert unpacked() == []
    away.rename(last)
    assert not session.prove(1).waits


def test_one_image_without_evidence_ends_the_run_only_if_no_other_has_any(made: MadeKit) -> None:
    made.behave(v052="silent")
    done = made.run()
    assert done.code == 10
    assert "left no evidence" in table(done.out)[A]
    assert made.ran() == [A]
    made.behave()
    assert made.run().code == 0
    (made.evidence / f"{A}.json").unlink()
    made.behave(v052="silent")
    done = made.run()
    assert "left no evidence" in table(done.out)[A]
    assert "proven" in table(done.out)[B]


def test_nothing_is_begun_that_may_take_longer_than_is_left(made: MadeKit) -> None:
    measured = made.path / "work/seconds.json"
    measured.write_text(json.dumps({"unpack": 1000}))
    done = made.run("--seconds", "500")
    assert done.code == 3
    assert "unpack may take 1000 s" in table(done.out)[A]
    assert "not begun" in table(done.out)[B]
    shutil.rmtree(made.path / "bundles")
    done = made.run()
    assert done.code == 3
    assert done.out.count("its bundle has not arrived") == 2
    assert made.ran() == []
    assert not images_left(made)


def test_tests_end_with_the_time_and_the_unpacked_image_stays(made: MadeKit) -> None:
    made.behave(v052="wait", v055="wait")
    done = made.run("--seconds", "1.5")
    assert done.code == 3
    assert "the time ended: " in table(done.out)[A]
    assert "not reached" in table(done.out)[B]
    assert not running(made)
    assert images_left(made)


def test_an_error_is_the_result_of_its_image_and_the_others_go_on(made: MadeKit) -> None:
    (made.path / "work/seconds.json").mkdir()  # cannot be replaced by a file
    done = made.run()
    assert done.code == 10
    for name in (A, B):
        assert "IsADirectoryError" in table(done.out)[name]
        assert "Traceback" in (made.evidence / f"{name}.log").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own needs root")
def test_two_images_are_tested_together_and_end_together(made: MadeKit) -> None:
    made.behave(v052="wait", v055="wait")
    with made.start("--together", "2") as process:
        wait_until(lambda: sorted(made.ran()) == [A, B])
        process.terminate()
        assert process.wait() == 130
    assert not running(made)
    made.behave(v052="fail")
    done = made.run("--together", "2")
    assert done.code == 10
    assert {name: row.split()[1] for name, row in table(done.out).items()} == {
        A: "failed",
        B: "proven",
    }
    assert not images_left(made)
    refused = made.run("--together", "0")
    assert refused.code == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own needs root")
def test_of_several_gpus_each_image_has_one(made: MadeKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,MIG-GPU-8f1c/7/0")
    made.behave(v052="wait", v055="wait")
    with made.start("--together", "2") as process:
        wait_until(lambda: sorted(made.ran()) == [A, B])
        wait_until(lambda: sorted(made.gpus()) == ["4", "MIG-GPU-8f1c/7/0"])
        turns = [path.name for path in made.path.glob("work/turns-*")]
        process.terminate()
    assert sorted(turns) == ["turns-on-gpu-4", "turns-on-gpu-MIG-GPU-8f1c-7-0"]


@pytest.mark.parametrize("safe", ["", "1"])
def test_the_code_of_the_kit_runs_in_any_directory(
    made: MadeKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safe: str
) -> None:
    """As in another checkout of this repository, which may change meanwhile."""
    monkeypatch.setenv("PYTHONSAFEPATH", safe)
    other = tmp_path / "checkout"
    (other / "images").mkdir(parents=True)
    (other / "images" / "__init__.py").write_text("raise ImportError('another checkout')")
    done = made.run(cwd=other)
    assert done.code == 0, done.said


def test_a_damaged_kit_is_refused(made: MadeKit) -> None:
    suite = made.path / "suite.tar"
    suite.write_bytes(suite.read_bytes()[:-1] + b"x")
    done = made.run()
    assert done.code == 1
    assert "suite.tar: damaged" in done.said


def test_a_machine_without_a_gpu_unpacks_no_second_image(whole: MadeKit, tmp_path: Path) -> None:
    """With the real suite, all of which is in the kit."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("a GPU is here")
    made = MadeKit(copied(whole, tmp_path), tmp_path)
    done = made.run()
    assert done.code == 10
    assert "the tests left no evidence" in table(done.out)[A]
    assert "not reached" in table(done.out)[B]
    assert f"{B}: unpack" not in done.said
    log = (made.evidence / f"{A}.log").read_text()
    assert "no NVIDIA GPU here" in log
    assert " error" not in log.rpartition("collected ")[2]
