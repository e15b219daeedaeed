"""Hostile wheels and sdists, by the command line: each is refused by name and writes nothing.

A few of each, to prove the path. All others are given to the readers themselves, in
tests/unit/formats and tests/unit/content/sdist.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from images.inputs.lock import distribution, sealed_text
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.distribution import Distribution
from tests.faults.fuzz import run
from tests.faults.tiny import TARGET, Tiny, fetch_into
from tests.unit.wheels import record_of, repeated, write_wheel

NAME = "one-1.0-py3-none-any.whl"
INFO = "one-1.0.dist-info"
GOOD = {"one/__init__.py": b"x = 1\n", "one/data": b"data"}

Make = Callable[[Path], Path]


@pytest.fixture(scope="module")
def built(target: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A store with the good image, and the full cache of it."""
    tiny = target.fresh(tmp_path_factory.mktemp("good"), warm=True)
    tiny.build()
    return tiny


def with_file(built: Tiny, place: Path, name: str, content: bytes) -> Tiny:
    """The target whose lock has these bytes for the distribution, with a store of its own."""
    work = place / "work"
    work.mkdir()
    tiny = replace(built, place=work, store=place / "store", cache=place / "cache")
    tiny.matrix.write_bytes(built.matrix.read_bytes())
    file = Artifact(name, hashlib.sha256(content).hexdigest(), len(content))
    other = Distribution(name.partition("-")[0], "1.0", file)
    sealed = sealed_text.read(built.lock, remedy="")
    lines = [
        distribution.line_of(other) if line.startswith(f"{other.pin} ") else line
        for line in sealed.lines
    ]
    assert lines != list(sealed.lines)
    tiny.lock.write_text(sealed_text.seal(sealed.inputs, lines))
    copy_tree(built.store, tiny.store)
    copy_tree(built.cache, tiny.cache)
    fetch_into(tiny.cache, other, content)
    return tiny


def copy_tree(source: Path, destination: Path) -> None:
    for directory, _, names in os.walk(source):
        place = destination / Path(directory).relative_to(source)
        place.mkdir(parents=True)
        for name in names:
            os.link(Path(directory) / name, place / name)
    (destination / "interpreters").unlink(missing_ok=True)
    if (source / "interpreters").is_symlink():
        (destination / "interpreters").symlink_to((source / "interpreters").readlink())


def files_in(place: Path) -> set[str]:
    """Every file, but the locks that a build leaves in its store."""
    found = {path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir()}
    return {path for path in found if "/.roll/locks/" not in path and not path.endswith("-lock")}


def refused(tiny: Tiny, place: Path, name: str) -> str:
    """Build, which must fail by the file's name and leave nothing; return the error."""
    before, images = files_in(place), (tiny.store / "index.json").read_bytes()
    places = ("--matrix", tiny.matrix, "--store", tiny.store, "--cache", tiny.cache)
    code, said = run("--target", TARGET, *places)
    assert code == 6, said
    (line,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert name in line
    assert files_in(place) - {"store/.roll/in-use"} == before - {"store/.roll/in-use"}
    assert (tiny.store / "index.json").read_bytes() == images
    assert tiny.verified()
    return line


def recorded(files: dict[str, bytes]) -> Make:
    """A wheel of the good files and these, all of them in RECORD."""
    return lambda place: write_wheel(place, {**GOOD, **files}, name="one")


def other_record(place: Path) -> Path:
    record = record_of({**GOOD, "one/data": b"other"}, f"{INFO}/RECORD")
    head = record_of(wheel_metadata(place), f"{INFO}/RECORD").rpartition(f"{INFO}/RECORD")[0]
    return write_wheel(place, GOOD, name="one", record=head + record)


def wheel_metadata(place: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(write_wheel(place, {}, name="one")) as archive:
        return {
            name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")
        }


def overlapping(place: Path) -> Path:
    """Many names for the same compressed bytes, as in Fifield's bomb."""
    path = write_wheel(place, {"one/data": bytes(20 << 20)}, name="one")
    return repeated(path, "one/data", 20)


HOSTILE: dict[str, tuple[Make, str]] = {
    "RECORD of other bytes": (other_record, "one/data: its content does not have the hash"),
    "dots": (recorded({"../../../../../../evil": b"x"}), "leaves the prefix"),
    "overlapping bomb": (overlapping, "a zip bomb"),
}


@pytest.mark.parametrize(("make", "reported"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_wheel(built: Tiny, tmp_path: Path, make: Make, reported: str) -> None:
    (tmp_path / "made").mkdir()
    made = make(tmp_path / "made")
    tiny = with_file(built, tmp_path, NAME, made.read_bytes())
    assert reported in refused(tiny, tmp_path, NAME)


def test_cached_wheel_with_another_hash(built: Tiny, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    content = write_wheel(tmp_path / "made", {"one/new.py": b"x = 2\n"}, name="one").read_bytes()
    tiny = with_file(built, tmp_path, NAME, content)
    (path,) = (path for path in tiny.cache.rglob(NAME) if path.read_bytes() == content)
    path.write_bytes(content[:-1] + b"x")
    assert "SHA256 mismatch" in refused(tiny, tmp_path, NAME)


@pytest.mark.parametrize("spoil", [lambda body: body[:-1] + b"x", lambda body: body + b"x"])
def test_index_that_serves_other_bytes(
    target: Tiny, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    """With another hash, and with another size; its page still has the locked ones."""
    tiny = target.fresh(tmp_path)
    index = replace(target.index, files=dict(target.index.files))
    page = index.page("heavy")
    assert page
    name = "heavy-1.0-py3-none-any.whl"
    good = target.index.files[name]
    target.index.pages["heavy"] = page
    target.index.files[name] = spoil(good)
    try:
        done = tiny.run("build")
    finally:
        target.index.files[name] = good
        del target.index.pages["heavy"]
    assert done.code == 6, done.said
    assert name in done.said
    assert not list(tiny.cache.rglob(name))
    assert tiny.verified()
    assert TARGET not in (tiny.store / "index.json").read_text()


# -- sdists ----------------------------------------------------------------------------------------


def sdist_that_leads_out() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for member in ("sourced-1.0/PKG-INFO", "sourced-1.0/../../../evil"):
            archive.addfile(tarfile.TarInfo(member))
    return out.getvalue()


def sdist_bomb() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("sourced-1.0/zeros")
        info.size = 110 << 20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()


SDISTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "dots": (sdist_that_leads_out, "outside the source"),
    "bomb": (sdist_bomb, "a zip bomb"),
}


@pytest.mark.parametrize(("make", "reported"), SDISTS.values(), ids=SDISTS)
def test_hostile_sdist(
    built: Tiny, tmp_path: Path, make: Callable[[], bytes], reported: str
) -> None:
    name = "sourced-1.0.tar.gz"
    tiny = with_file(built, tmp_path, name, make())
    assert reported in refused(tiny, tmp_path, name)
