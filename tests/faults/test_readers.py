"""Every file that the builder reads, with any of its bytes changed: an error, never a traceback."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.attest import evidence
from images.attest.verdict import judge_results
from images.errors import BuildError
from images.export.bundle import delta
from images.formats import deb_file, sdist_archive, tar_entries, wheel_file
from images.inputs.lock import target_lock
from images.inputs.matrix.load import load
from tests.faults.fuzz import PIECES, damaged, fuzz, run
from tests.faults.tiny import MATRIX, TARGET, Tiny
from tests.unit.fake_debs import ar_of, deb_of, tar_of
from tests.unit.wheels import write_wheel

Read = Callable[[Path], object]


def read_wheel(path: Path) -> None:
    with wheel_file.opened(path) as wheel:
        for entry in wheel_file.entries(wheel):
            with entry.open() as stream:
                while stream.read(1 << 16):
                    pass


def read_deb(path: Path) -> None:
    assert isinstance(deb_file.control(path), str)
    for member, content in deb_file.members(path):
        assert isinstance(member.name, str)
        content()


def read_tar(path: Path) -> None:
    for entry in tar_entries.entries(path):
        with entry.open() as stream:
            stream.read()


def read_sdist(path: Path) -> None:
    place = path.parent / "source"
    try:
        sdist_archive.unpacked(path, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def a_wheel(place: Path) -> bytes:
    files = {"demo/__init__.py": b"x = 1\n" * 50, "demo-1.0.data/scripts/tool": b"#!python\n"}
    files["demo-1.0.dist-info/entry_points.txt"] = b"[console_scripts]\ndemo = demo:main\n"
    return write_wheel(place, files).read_bytes()


def a_tar(place: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, link in (
            ("./", tarfile.DIRTYPE, ""),
            ("./etc", tarfile.DIRTYPE, ""),
            ("./etc/ünï", tarfile.REGTYPE, ""),
            ("./etc/hard", tarfile.LNKTYPE, "./etc/ünï"),
            ("./etc/soft", tarfile.SYMTYPE, "ünï"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mtime = kind, link, 1.5  # a PAX header
            info.size = 5 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"12345"))
    return out.getvalue()


def a_plain_deb(place: Path) -> bytes:
    """One whose tars are not compressed: damage reaches their headers."""
    control = {"control": b"Package: x\n"}
    files = {"usr/bin/x": b"x" * 100}
    members = {"control.tar": tar_of(control), "data.tar": tar_of(files, {"usr/bin/y": "x"})}
    return ar_of({"debian-binary": b"2.0\n", **members})


def an_sdist(place: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in ("demo-1.0/PKG-INFO", "demo-1.0/setup.py"):
            info = tarfile.TarInfo(name)
            info.size = 6
            archive.addfile(info, io.BytesIO(b"x = 1\n"))
    return out.getvalue()


READERS: dict[str, tuple[str, Callable[[Path], bytes], Read]] = {
    "wheel": ("demo-1.0-py3-none-any.whl", a_wheel, read_wheel),
    "deb": ("x.deb", lambda place: deb_of("x", {"usr/bin/x": b"x"}, {"y": "x"}), read_deb),
    "plain deb": ("x.deb", a_plain_deb, read_deb),
    "base tar": ("base.tar", a_tar, read_tar),
    "sdist": ("demo-1.0.tar.gz", an_sdist, read_sdist),
    "inventory": (
        "inventory",
        lambda place: b'["' + b"0" * 64 + b'", 5, "/x"]\n{"files": 1}\n',
        lambda path: delta.read_inventories([path], ()),
    ),
    "evidence": (
        "evidence.json",
        lambda place: (Path(__file__).parents[2] / "evidence" / f"{TARGET}.json").read_bytes(),
        lambda path: judge_results(evidence.read(path), TARGET, None),
    ),
}


@pytest.mark.parametrize("name", READERS)
@fuzz(50, 3000)
@given(data=st.data())
def test_any_damage(tmp_path: Path, name: str, data: st.DataObject) -> None:
    file_name, make, read = READERS[name]
    good = tmp_path / "good"
    if not good.exists():
        (tmp_path / "made").mkdir()
        good.write_bytes(make(tmp_path / "made"))
    path = tmp_path / file_name
    path.write_bytes(damaged(data, good.read_bytes()))
    try:
        read(path)
    except BuildError:
        return


@pytest.mark.parametrize("name", READERS)
def test_honest_file_is_read(tmp_path: Path, name: str) -> None:
    file_name, make, read = READERS[name]
    content = make(tmp_path)
    (tmp_path / file_name).write_bytes(content)
    read(tmp_path / file_name)


# -- the matrix and the locks, by the command line -------------------------------------------------


@fuzz(30, 2000)
@given(data=st.data())
def test_any_matrix(tmp_path: Path, data: st.DataObject) -> None:
    """As a user sees it; tests/unit/inputs/matrix has the reader's own tests."""
    text = MATRIX.format(requirements='"sglang=={sglang}"')
    for _ in range(data.draw(st.integers(1, 3))):
        at, gone = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(PIECES) + text[at + gone :]
    path = tmp_path / "matrix.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for command in (["list"], ["lock", "--check"], ["--target", TARGET]):
        code, said = run(*command, "--matrix", path, "--store", tmp_path / "store")
        # A row that is still good has no lock here.
        assert code in ((0, 3) if command == ["list"] else (2, 3, 4)), said
        assert code == 0 or "error: " in said
    assert not (tmp_path / "store").exists()


BOMBS = {
    "billion laughs": "a: &a [x, x]\n"
    + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijklm")),
    "object": "!!python/object/apply:os.system ['touch evil']",
    "number": f"platform: {'9' * 100_000}",
}
"""All others are given to the reader itself, in tests/unit/inputs/matrix/test_yaml_nodes.py."""


@pytest.mark.parametrize("name", BOMBS)
def test_matrix_that_bombs_or_constructs_objects(tmp_path: Path, name: str) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(BOMBS[name])
    for command in (["list"], ["lock"], ["--target", TARGET]):
        code, said = run(*command, "--matrix", path, "--store", tmp_path / "store")
        assert code == 3, said
        assert len(said) < 20_000
    assert [item.name for item in tmp_path.iterdir()] == ["matrix.yaml"]
    assert not Path("evil").exists()


@fuzz(30, 500)
@given(data=st.data())
def test_any_lock(target: Tiny, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_bytes(target.matrix.read_bytes())
    good = target.lock.read_bytes()
    content = damaged(data, good)
    (tmp_path / target.lock.name).write_bytes(content)
    code, said = run("--target", TARGET, "--matrix", path, "--store", tmp_path / "store")
    if content != good:
        assert code == 4, said
        assert f"python build.py lock --target {TARGET}" in said


def test_sealed_lock_with_lines_that_are_none(target: Tiny, tmp_path: Path) -> None:
    """A forged seal as well is not enough: lines are checked for their form."""
    from images.inputs.lock import sealed_text

    found = load(target.matrix)
    inputs = target_lock.inputs_of(found.target(TARGET))
    path = tmp_path / "matrix.yaml"
    path.write_bytes(target.matrix.read_bytes())
    sha256 = "0" * 64
    for line in (
        f"x==1 --hash=sha256:{sha256}  # ../../evil.whl 5",
        f"x==1 --hash=sha256:{sha256}  # x.whl -5",
        f"../x==1 --hash=sha256:{sha256}  # x.whl 5",
        "-e git+https://example.org/x",
        "--index-url https://example.org",
    ):
        (tmp_path / target.lock.name).write_text(sealed_text.seal(inputs, [line]))
        code, said = run("--target", TARGET, "--matrix", path, "--store", tmp_path / "store")
        assert code == 4, said
        assert "not a locked distribution" in said
