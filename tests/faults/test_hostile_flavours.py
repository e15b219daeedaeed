"""A flavour that something is wrong with, by the command line: what, where, the way out, no trace.

The tiny target has a flavour here: a wheel of the index and one that no index has. Faults of the
matrix itself are in tests/unit/inputs/matrix/test_flavours.py, those of real Debian packages and
sdists with C sources in tests/integration/test_flavour.py.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.faults import index
from tests.faults.tiny import ROOT, TARGET, Done, Tiny
from tests.unit.wheels import write_wheel

ROLL = f"{TARGET}-roll"
FLAVOUR = """\
flavours:
  roll:
    why: a job runs in it
    exclude_newer: {{date: 2025-10-01, why: later than the engine}}
    requirements: [seven==1.0]
    wheels:
      - file: {file}
        sha256: {digest}
        why: no index has it
defaults:
  flavours: [roll]
"""


@dataclass(frozen=True)
class Flavoured:
    """The tiny target with a flavour.

    Attributes:
        tiny: the target, with a place, a store and a cache of its own.
        wheel: the custom wheel, in its own directory.
    """

    tiny: Tiny
    wheel: Path

    @property
    def matrix(self) -> Path:
        """The matrix, which has another name than usual."""
        return self.tiny.place / "rows.yaml"

    @property
    def lock(self) -> Path:
        """The flavour's lock."""
        return self.tiny.place / f"{ROLL}.txt"

    def run(self, command: str, *arguments: str) -> Done:
        """Run a command on this matrix, store and cache; no traceback is shown."""
        options = ["--matrix", str(self.matrix), "--store", str(self.tiny.store)]
        options += (
            ["--cache", str(self.tiny.cache)] if command in ("build", "fetch", "lock") else []
        )
        done = subprocess.run(
            [sys.executable, ROOT / "build.py", command, *options, *arguments],
            env=self.tiny.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def change(self, old: str, new: str) -> int:
        """Change the matrix; return the line of the change."""
        text = self.matrix.read_text()
        assert text.count(old) == 1
        text = text.replace(old, new)
        self.matrix.write_text(text)
        return text[: text.index(new)].count("\n") + 1

    def line_of(self, part: str) -> int:
        """The line on which a text is in the matrix."""
        text = self.matrix.read_text()
        return text[: text.index(part)].count("\n") + 1

    def files(self) -> set[Path]:
        """All files of place, store and cache, but for uv's own and the store's locks."""
        places = (self.tiny.place, self.tiny.store, self.tiny.cache)
        found = {path for place in places for path in place.rglob("*") if path.is_file()}
        return {path for path in found if "uv" not in path.parts and path.name != "in-use"}


@pytest.fixture
def roll(target: Tiny, tmp_path: Path) -> Iterator[Flavoured]:
    """The flavour, not locked yet, of the locked tiny target; its custom wheel is in no index."""
    with index.serving() as served:
        served.files |= target.index.files
        place = tmp_path / "matrix"
        place.mkdir()
        for name, version in (("seven", "1.0"), ("one", "2.0")):
            files = {f"{name}/__init__.py": b"x = 1\n"}
            served.add(write_wheel(tmp_path, files, name=name, version=version))
        (tmp_path / "own").mkdir()
        wheel = write_wheel(
            tmp_path / "own", {"kernel.py": b"x = 1\n"}, name="kernel", version="1.0+cu12"
        )
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        tiny = replace(replace(target, index=served).fresh(tmp_path / "here"), place=place)
        found = Flavoured(tiny, wheel)
        text = FLAVOUR.format(file=wheel.name, digest=digest)
        found.matrix.write_text(target.matrix.read_text().replace("defaults:\n", text))
        shutil.copy(target.lock, place)
        yield found


@pytest.fixture
def locked(roll: Flavoured) -> Flavoured:
    """The same, locked; the custom wheel is in no cache."""
    done = roll.run("lock", "--target", ROLL, "--wheels", str(roll.wheel.parent))
    assert done.code == 0, done.said
    shutil.rmtree(roll.tiny.cache / hashlib.sha256(roll.wheel.read_bytes()).hexdigest())
    return roll


# -- custom wheels ---------------------------------------------------------------------------------


def test_custom_wheel_that_is_not_there_is_named_by_lock_fetch_and_build(locked: Flavoured) -> None:
    before = locked.files()
    where = f"rows.yaml:{locked.line_of('- file: kernel')}: {locked.wheel.name}"
    for command in (["lock"], ["fetch"], ["build"], ["build", "--offline"]):
        done = locked.run(*command, "--target", ROLL)
        assert done.code == 5
        assert where in done.said
        assert "--wheels DIR" in done.said
        assert "matrix.yaml" not in done.said
        assert locked.files() == before


def test_directory_of_wheels_that_is_none_ends_a_command_before_it_begins(
    locked: Flavoured,
) -> None:
    before = locked.files()
    for place, said in (("nowhere", "no such directory"), (str(locked.wheel), "not a directory")):
        for command in ("lock", "fetch", "build"):
            done = locked.run(command, "--target", ROLL, "--wheels", place)
            assert done.code == 2
            assert f"--wheels {place}: {said}" in done.said
    assert locked.files() == before


def test_directory_without_the_wheel_is_no_directory_that_holds_it(
    locked: Flavoured, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    done = locked.run("build", "--target", ROLL, "--wheels", str(tmp_path / "empty"))
    assert done.code == 5
    assert locked.wheel.name in done.said


@pytest.mark.parametrize("hashed", [False, True], ids=["another-hash", "hash-of-it"])
def test_truncated_wheel_is_refused_and_not_kept(locked: Flavoured, hashed: bool) -> None:
    whole = locked.wheel.read_bytes()
    locked.wheel.write_bytes(whole[:-30])
    if hashed:
        old, new = (hashlib.sha256(data).hexdigest() for data in (whole, whole[:-30]))
        locked.change(old, new)
    before = locked.files()
    line = locked.line_of("- file: kernel")
    for command in ("lock", "build"):
        done = locked.run(command, "--target", ROLL, "--wheels", str(locked.wheel.parent))
        assert done.code == 6
        assert f"rows.yaml:{line}" in done.said
        assert ("not a valid wheel" if hashed else "SHA256 mismatch") in done.said
    assert locked.files() == before


def test_wheel_of_another_python_is_refused_by_its_name(roll: Flavoured) -> None:
    line = roll.change(roll.wheel.name, "kernel-1.0-cp312-cp312-linux_x86_64.whl")
    done = roll.run("lock", "--target", ROLL)
    assert done.code == 3
    assert f"rows.yaml:{line}: " in done.said
    assert "is not for CPython 3.11" in done.said


# -- locks -----------------------------------------------------------------------------------------


def test_requirement_that_changes_the_engine_names_both_ways_out(roll: Flavoured) -> None:
    roll.change("[seven==1.0]", "[seven==1.0, one==2.0]")
    done = roll.run("lock", "--target", ROLL, "--wheels", str(roll.wheel.parent))
    assert done.code == 4
    assert "what the flavour 'roll' asks for does not fit" in done.said
    assert {"one==1.0", "one==2.0"} <= set(re.findall(r"one==\d\.\d", done.said))
    assert "two ways out" in done.said
    assert not roll.lock.exists()


def test_stale_engine_is_named_with_the_command_that_locks_both(locked: Flavoured) -> None:
    before = locked.lock.read_bytes()
    locked.change('"two==1.0"', '"two<2"')
    done = locked.run("lock", "--target", ROLL, "--wheels", str(locked.wheel.parent))
    assert done.code == 4
    assert f"{TARGET}.txt: lock is stale: rows.yaml changed" in done.said
    command = f"python build.py lock --target {TARGET} --target {ROLL}"
    assert command in done.said
    assert locked.lock.read_bytes() == before
    checked = locked.run("lock", "--check")
    assert checked.said.count("lock is stale") == 1
    # In either order: an engine is locked before its flavour.
    names = shlex.split(command)[3:]
    done = locked.run("lock", *names[2:], *names[:2], "--wheels", str(locked.wheel.parent))
    assert done.code == 0, done.said
    assert locked.run("lock", "--target", ROLL).out.endswith("unchanged\n")


def test_undefined_flavour_and_misspelt_name_have_different_messages(
    locked: Flavoured,
) -> None:
    done = locked.run("build", "--target", f"{TARGET}-rol")
    assert done.code == 2
    assert f"did you mean '{ROLL}'?" in done.said
    line = locked.change("flavours: [roll]", "flavours: [rol]")
    done = locked.run("build", "--target", ROLL)
    assert done.code == 3
    assert f"rows.yaml:{line}: flavours: no flavour 'rol' is defined" in done.said


def test_row_cannot_take_the_id_of_a_flavours_target(locked: Flavoured) -> None:
    text = locked.matrix.read_text()
    row = text[text.index("  - id:") :]
    locked.matrix.write_text(text + row.replace(TARGET, ROLL))
    done = locked.run("list")
    assert done.code == 3
    assert f"'{ROLL}' does not follow from" in done.said


# -- and where nothing is wrong -------------------------------------------------------------------


def test_flavour_begins_with_its_engines_layers(locked: Flavoured) -> None:
    done = locked.run("build", "--all", "--wheels", str(locked.wheel.parent), "--json")
    assert done.code == 0, done.said
    plain, roll = json.loads(done.out)["images"]
    digests = [[layer["digest"] for layer in image["layers"]] for image in (plain, roll)]
    assert digests[1][: len(digests[0]) - 1] == digests[0][:-1]
    assert digests[1][-1] == digests[0][-1]
    again = locked.run("build", "--all", "--offline", "--json")
    assert [image["manifest_digest"] for image in json.loads(again.out)["images"]] == [
        plain["manifest_digest"],
        roll["manifest_digest"],
    ]
