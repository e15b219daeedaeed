"""Wheels and sdists that lie, by the command line: each is refused by name and writes nothing.

What the reader itself makes of each lie is told in tests/unit/formats/test_wheel_file.py.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
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
from tests.unit.wheels import record_of, write_wheel

NAME = "one-1.0-py3-none-any.whl"
INFO = "one-1.0.dist-info"
GOOD = {"one/__init__.py": b"x = 1\n", "one/data": b"data"}

Lie = Callable[[Path], Path]


@pytest.fixture(scope="module")
def built(target: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A store that has the honest image, and the full cache of it."""
    tiny = target.fresh(tmp_path_factory.mktemp("honest"), warm=True)
    tiny.build()
    return tiny


def with_file(built: Tiny, place: Path, name: str, content: bytes) -> Tiny:
    """The target whose lock has these bytes for the distribution, with a store of its own."""
    work = place / "work"
    work.mkdir()
    tiny = replace(built, place=work, store=place / "store", cache=place / "cache")
    tiny.matrix.write_bytes(built.matrix.read_bytes())
    file = Artifact(name, hashlib.sha256(content).hexdigest(), len(content))
    lying = Distribution(name.partition("-")[0], "1.0", file)
    sealed = sealed_text.read(built.lock, remedy="")
    lines = [
        distribution.line_of(lying) if line.startswith(f"{lying.pin} ") else line
        for line in sealed.lines
    ]
    assert lines != list(sealed.lines)
    tiny.lock.write_text(sealed_text.seal(sealed.inputs, lines))
    copy_tree(built.store, tiny.store)
    copy_tree(built.cache, tiny.cache)
    fetch_into(tiny.cache, lying, content)
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
    """Build, which must fail by the file's name and leave nothing; gives what was said."""
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


def recorded(files: dict[str, bytes]) -> Lie:
    """A wheel of the good files and these, all of them in RECORD."""
    return lambda place: write_wheel(place, {**GOOD, **files}, name="one")


def of_kind(kind: int) -> Lie:
    """A wheel with a member that is not a file."""
    modes = {"one/link": kind | 0o777}
    return lambda place: write_wheel(
        place, {**GOOD, "one/link": b"/etc/passwd"}, name="one", modes=modes
    )


def truncated(place: Path) -> Path:
    path = write_wheel(place, GOOD, name="one")
    path.write_bytes(path.read_bytes()[:-30])
    return path


def other_record(place: Path) -> Path:
    record = record_of({**GOOD, "one/data": b"other"}, f"{INFO}/RECORD")
    head = record_of(wheel_metadata(place), f"{INFO}/RECORD").rpartition(f"{INFO}/RECORD")[0]
    return write_wheel(place, GOOD, name="one", record=head + record)


def wheel_metadata(place: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(write_wheel(place, {}, name="one")) as archive:
        return {
            name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")
        }


def many_files(place: Path) -> Path:
    path = write_wheel(place, {"one/data": b""}, name="one")
    return with_more_names(path, "one/data", 100_000)


def bomb(place: Path) -> Path:
    """Each file is honest; together they are 1,000 times the wheel."""
    return write_wheel(place, {f"one/{number}": bytes(30 << 20) for number in range(4)}, name="one")


def large_source(place: Path) -> Path:
    return write_wheel(place, {"one/large.py": b"#" * (65 << 20)}, name="one")


def hidden_bomb(place: Path) -> Path:
    """The zip's directory names 10 bytes, and 60 MB come out."""
    content = bytes(60 << 20)
    path = write_wheel(place, {"one/data": content}, name="one")
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        at = raw.index(b"one/data", archive.start_dir) - 46 + 24
    assert int.from_bytes(raw[at : at + 4], "little") == len(content)
    raw[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(raw)
    return path


def overlapping(place: Path) -> Path:
    """Many names for the same compressed bytes, as in Fifield's bomb."""
    path = write_wheel(place, {"one/data": bytes(20 << 20)}, name="one")
    return with_more_names(path, "one/data", 20)


def with_more_names(path: Path, member: str, count: int) -> Path:
    """Let a zip's directory name the same bytes again and again."""
    with zipfile.ZipFile(path, "a") as archive:
        info = archive.getinfo(member)
        archive.filelist += [renamed(info, f"one/{number}") for number in range(count)]
        archive._didModify = True  # type: ignore[attr-defined]
    return path


def renamed(info: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    copy = zipfile.ZipInfo(name)
    for field in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
        setattr(copy, field, getattr(info, field))
    return copy


LIES: dict[str, tuple[Lie, str]] = {
    "truncated zip": (truncated, "not a valid wheel"),
    "no zip": (lambda place: written(place / NAME, b"no zip"), "not a valid wheel"),
    "RECORD of other bytes": (other_record, "one/data: its content does not have the hash"),
    "dots": (recorded({"../../../../../../evil": b"x"}), "leaves the prefix"),
    "dots in data": (recorded({"one-1.0.data/data/../../../evil": b"x"}), "leaves the prefix"),
    "absolute": (recorded({"/tmp/evil": b"x"}), "leaves the prefix"),
    "backslashes": (recorded({"..\\..\\evil": b"x"}), "leaves the prefix"),
    "symlink": (of_kind(stat.S_IFLNK), "a link or device"),
    "character device": (of_kind(stat.S_IFCHR), "a link or device"),
    "block device": (of_kind(stat.S_IFBLK), "a link or device"),
    "fifo": (of_kind(stat.S_IFIFO), "a link or device"),
    "upper and lower case": (recorded({"one/DATA": b"x"}), "upper and lower case alone"),
    "100,000 files": (many_files, "files; 50000 are the limit"),
    "zip bomb": (bomb, "a zip bomb"),
    "large source": (large_source, "are the limit of a source"),
    "hidden bomb": (hidden_bomb, "more than its 10 bytes"),
    "overlapping bomb": (overlapping, "a zip bomb"),
}


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("lie", "told"), LIES.values(), ids=LIES)
def test_wheel_that_lies(built: Tiny, tmp_path: Path, lie: Lie, told: str) -> None:
    (tmp_path / "made").mkdir()
    made = lie(tmp_path / "made")
    tiny = with_file(built, tmp_path, NAME, made.read_bytes())
    assert told in refused(tiny, tmp_path, NAME)


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
    """With another hash, and with another size: its page still tells of the locked ones."""
    tiny = target.fresh(tmp_path)
    index = replace(target.index, files=dict(target.index.files))
    page = index.page("heavy")
    assert page
    name = "heavy-1.0-py3-none-any.whl"
    honest = target.index.files[name]
    target.index.pages["heavy"] = page
    target.index.files[name] = spoil(honest)
    try:
        done = tiny.run("build")
    finally:
        target.index.files[name] = honest
        del target.index.pages["heavy"]
    assert done.code == 6, done.said
    assert name in done.said
    assert not list(tiny.cache.rglob(name))
    assert tiny.verified()
    assert TARGET not in (tiny.store / "index.json").read_text()


# -- sdists ----------------------------------------------------------------------------------------


def sdist_with(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """An sdist with one more member."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for member in ("sourced-1.0/PKG-INFO", name):
            info = tarfile.TarInfo(member)
            if member == name:
                info.type, info.linkname = kind, link
            archive.addfile(info)
    return out.getvalue()


def sdist_bomb() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("sourced-1.0/zeros")
        info.size = 110 << 20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()


SDISTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "dots": (lambda: sdist_with("sourced-1.0/../../../evil"), "outside the source"),
    "absolute": (lambda: sdist_with("/tmp/evil"), "outside the source"),
    "symlink": (lambda: sdist_with("sourced-1.0/x", tarfile.SYMTYPE, "/etc"), "a link, a device"),
    "hard link": (
        lambda: sdist_with("sourced-1.0/x", tarfile.LNKTYPE, "/etc/passwd"),
        "a link, a device",
    ),
    "device": (lambda: sdist_with("sourced-1.0/x", tarfile.CHRTYPE), "a link, a device"),
    "truncated": (lambda: sdist_with("sourced-1.0/x")[:-20], "not an sdist"),
    "bomb": (sdist_bomb, "a zip bomb"),
}


@pytest.mark.parametrize(("make", "told"), SDISTS.values(), ids=SDISTS)
def test_sdist_that_lies(built: Tiny, tmp_path: Path, make: Callable[[], bytes], told: str) -> None:
    name = "sourced-1.0.tar.gz"
    tiny = with_file(built, tmp_path, name, make())
    assert told in refused(tiny, tmp_path, name)
    assert not Path("/tmp/evil").exists()
