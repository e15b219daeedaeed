"""Sdists: built without isolation, the same bytes each time, every failure with its output."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from images.content.python.interpreter import Interpreter
from images.content.sdist import wheel_build
from images.errors import IntegrityError, ToolError
from images.formats import wheel_file
from tests.unit.wheels import write_wheel

# A build sees /usr and no virtual environment.
SYSTEM = "/usr/bin/python3"
PYTHON = Interpreter((SYSTEM, "-I", "-S"), {"PATH": os.defpath}, "3.11")
pytestmark = pytest.mark.skipif(
    subprocess.run([SYSTEM, "-P", "-c", ""], capture_output=True, check=False).returncode != 0,
    reason=f"the image's Python has -P, which is of 3.11; {SYSTEM} has not",
)

PYPROJECT = b"""
[build-system]
requires = ["tiny"]
build-backend = "tiny"
"""

# A backend like setuptools in what matters: it takes modes over, and looks at the environment.
TINY = b"""
import hashlib, json, os, sys, time, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "demo-1.0-py3-none-any.whl"
    files = {}
    for where, _, names in os.walk("src"):
        for name_ in names:
            path = os.path.join(where, name_)
            files[os.path.relpath(path, "src")] = (open(path, "rb").read(), os.stat(path).st_mode)
    seen = {
        "order": list({"one", "two", "three", "four", "five"}),
        "epoch": os.environ["SOURCE_DATE_EPOCH"],
        "zone": time.tzname,
        "environment": sorted(os.environ),
        "host": [path for path in sys.path if "site-packages" in path],
    }
    files["demo/seen.json"] = (json.dumps(seen).encode(), 0o100644)
    with zipfile.ZipFile(os.path.join(directory, name), "w") as archive:
        info = "demo-1.0.dist-info"
        files[info + "/METADATA"] = (b"Metadata-Version: 2.1\\nName: demo\\nVersion: 1.0\\n", 0o644)
        files[info + "/WHEEL"] = (b"Wheel-Version: 1.0\\n", 0o644)
        from tiny_record import record
        files[info + "/RECORD"] = (record(files, info).encode(), 0o644)
        for path in sorted(files):
            entry = zipfile.ZipInfo(path)
            entry.external_attr = files[path][1] << 16
            archive.writestr(entry, files[path][0])
    return name
"""
RECORD = b"""
import base64, hashlib

def record(files, info):
    lines = [
        "%s,sha256=%s,%d" % (path, base64.urlsafe_b64encode(hashlib.sha256(body).digest())
                             .decode().rstrip("="), len(body))
        for path, (body, _) in sorted(files.items())
    ]
    return "\\n".join([*lines, info + "/RECORD,,", ""])
"""
SOURCE = {
    "demo-1.0/pyproject.toml": PYPROJECT,
    "demo-1.0/src/demo/__init__.py": b"x = 1\n",
    "demo-1.0/src/demo/tool.sh": b"#!/bin/sh\n",
}


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    return write_wheel(tmp_path, {"tiny.py": TINY, "tiny_record.py": RECORD}, name="tiny")


def packed(
    path: Path,
    files: dict[str, bytes],
    modes: dict[str, int] | None = None,
    change: Callable[[tarfile.TarInfo], None] = lambda _: None,
) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), (modes or {}).get(name, 0o644)
            change(info)
            archive.addfile(info, io.BytesIO(content))
    return path


def built(source: Path, requirements: list[Path], workdir: Path) -> Path:
    workdir.mkdir()
    return wheel_build.build(source, requirements, PYTHON, workdir)


def read(wheel: Path, member: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member)


def test_wheel_is_built_and_valid(tmp_path: Path, backend: Path) -> None:
    wheel = built(packed(tmp_path / "demo-1.0.tar.gz", SOURCE), [backend], tmp_path / "work")
    assert wheel.parent.is_relative_to(tmp_path / "work")
    with wheel_file.opened(wheel) as opened:
        assert {entry.open().read() for entry in wheel_file.entries(opened)} >= {b"x = 1\n"}


def test_same_bytes_whatever_umask_modes_owner_and_hash_seed(tmp_path: Path, backend: Path) -> None:
    def own(info: tarfile.TarInfo) -> None:
        info.uid, info.gid, info.mtime = 1234, 1234, 1_700_000_000

    tool = "demo-1.0/src/demo/tool.sh"
    (tmp_path / "one").mkdir()
    first = packed(tmp_path / "one" / "demo-1.0.tar.gz", SOURCE, {tool: 0o755})
    second = packed(
        tmp_path / "demo-1.0.tar.gz",
        SOURCE,
        {tool: 0o700, **dict.fromkeys(SOURCE, 0o600)} | {tool: 0o700},
        own,
    )
    digests = set()
    for number, (source, umask) in enumerate([(first, 0o022), (second, 0o077), (first, 0o000)]):
        former = os.umask(umask)
        try:
            wheel = built(source, [backend], tmp_path / f"work{number}")
        finally:
            os.umask(former)
        digests.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(digests) == 1
    with zipfile.ZipFile(wheel) as archive:
        assert archive.getinfo("demo/tool.sh").external_attr >> 16 & 0o777 == 0o755
        assert archive.getinfo("demo/__init__.py").external_attr >> 16 & 0o777 == 0o644


def test_build_sees_nothing_of_the_host(
    tmp_path: Path, backend: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cr3t")
    monkeypatch.setenv("PYTHONPATH", "/host/site-packages")
    wheel = built(packed(tmp_path / "demo-1.0.tar.gz", SOURCE), [backend], tmp_path / "work")
    seen = read(wheel, "demo/seen.json")
    assert b"SECRET" not in seen
    assert b"PYTHONPATH" not in seen
    assert b'"host": []' in seen
    assert b'"epoch": "315532800"' in seen
    assert b'"UTC"' in seen


def test_backend_in_the_source_is_used(tmp_path: Path) -> None:
    pyproject = PYPROJECT + b'backend-path = ["own"]\n'
    files = SOURCE | {
        "demo-1.0/pyproject.toml": pyproject,
        "demo-1.0/own/tiny.py": TINY,
        "demo-1.0/own/tiny_record.py": RECORD,
    }
    assert built(packed(tmp_path / "demo-1.0.tar.gz", files), [], tmp_path / "work").is_file()


@pytest.mark.parametrize("pyproject", [None, b"", b"[project]\nname = 'demo'\n"])
def test_source_that_names_no_backend_is_built_by_setuptools(
    tmp_path: Path, pyproject: bytes | None
) -> None:
    """PEP 517's fallback; a stand-in reports that it was called, as the real one is large."""
    meta = b"def build_wheel(*a):\n  raise SystemExit('legacy setuptools was asked')\n"
    meta += b"class __legacy__: build_wheel = staticmethod(build_wheel)\n"
    setuptools = write_wheel(
        tmp_path,
        {"setuptools/__init__.py": b"", "setuptools/build_meta.py": meta},
        name="setuptools",
    )
    files = {"demo-1.0/setup.py": b""}
    if pyproject is not None:
        files["demo-1.0/pyproject.toml"] = pyproject
    with pytest.raises(ToolError, match="legacy setuptools was asked"):
        built(packed(tmp_path / "demo.tar.gz", files), [setuptools], tmp_path / "work")


# -- failures --------------------------------------------------------------------------------------


def failed(tmp_path: Path, requirements: list[Path], **changes: bytes) -> ToolError:
    files = SOURCE | {f"demo-1.0/{name.replace('__', '.')}": text for name, text in changes.items()}
    with pytest.raises(ToolError) as error:
        built(packed(tmp_path / "demo-1.0.tar.gz", files), requirements, tmp_path / "work")
    assert error.value.message.startswith("demo-1.0.tar.gz: ")
    return error.value


@pytest.mark.parametrize(
    "name", ["torch-1.0-py3-none-any.whl", "demo-2.0-py3-none-any.whl", "x.whl"]
)
def test_wheel_of_another_distribution_is_refused(tmp_path: Path, name: str) -> None:
    other = TINY.replace(b"demo-1.0-py3-none-any.whl", name.encode())
    backend = write_wheel(tmp_path, {"tiny.py": other, "tiny_record.py": RECORD}, name="tiny")
    with pytest.raises(IntegrityError, match=r"demo-1\.0\.tar\.gz: its build made"):
        built(packed(tmp_path / "demo-1.0.tar.gz", SOURCE), [backend], tmp_path / "work")


def test_missing_build_requirement_names_the_remedy(tmp_path: Path) -> None:
    error = failed(tmp_path, [])
    assert "No module named 'tiny'" in error.message
    assert "`build:` requirements" in (error.remedy or "")


def test_failure_ends_with_the_last_lines_of_the_build(tmp_path: Path) -> None:
    loud = b"def build_wheel(*args):\n  print('line\\n' * 99)\n  raise RuntimeError('last words')\n"
    backend = write_wheel(tmp_path, {"tiny.py": loud}, name="tiny")
    error = failed(tmp_path, [backend])
    assert "last words" in error.message
    assert len(error.message.splitlines()) <= 21
    assert "`build:` requirements" in (error.remedy or "")


@pytest.mark.parametrize(
    "code",
    [b"", b"def build_wheel(*args): return 'none.whl'\n", b"raise ImportError('deep')\n",
     b"import os\ndef build_wheel(*args): os._exit(0)\n"],
)  # fmt: skip
def test_backend_that_does_not_do_its_work_is_a_tool_error(tmp_path: Path, code: bytes) -> None:
    failed(tmp_path, [write_wheel(tmp_path, {"tiny.py": code}, name="tiny")])


def test_backend_path_that_leaves_the_source_is_refused(tmp_path: Path) -> None:
    failed(tmp_path, [], pyproject__toml=PYPROJECT + b'backend-path = ["../.."]\n')


@pytest.mark.parametrize("text", [b"not toml", b"\xff", b"build-system = 5\n"])
def test_pyproject_that_cannot_be_read_is_an_integrity_error(tmp_path: Path, text: bytes) -> None:
    source = packed(tmp_path / "demo.tar.gz", {"demo-1.0/pyproject.toml": text})
    with pytest.raises(IntegrityError, match=r"pyproject\.toml"):
        built(source, [], tmp_path / "work")


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil-sdist", "demo-1.0/../../evil", "/"])
def test_member_that_leaves_the_source_is_refused(tmp_path: Path, name: str) -> None:
    source = packed(tmp_path / "demo.tar.gz", {**SOURCE, name: b"evil"})
    with pytest.raises(IntegrityError, match="not an sdist"):
        built(source, [], tmp_path / "work")
    assert not (tmp_path / "evil").exists()
    assert not Path("/tmp/evil-sdist").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_link_or_device_is_refused(tmp_path: Path, kind: bytes) -> None:
    def make_special(info: tarfile.TarInfo) -> None:
        if info.name.endswith("special"):
            info.type, info.linkname = kind, "/etc/passwd"

    source = packed(tmp_path / "a.tar.gz", {**SOURCE, "demo-1.0/special": b""}, None, make_special)
    with pytest.raises(IntegrityError, match=r"demo-1\.0/special"):
        built(source, [], tmp_path / "work")


@pytest.mark.parametrize(
    "content", [b"", b"not a tar", b"\x1f\x8b\x08\x00" + bytes(30), bytes(10_240)]
)
def test_what_is_not_an_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "demo.tar.gz"
    source.write_bytes(content)
    with pytest.raises(IntegrityError, match="not an sdist"):
        built(source, [], tmp_path / "work")


def test_truncated_archive_is_refused(tmp_path: Path) -> None:
    source = packed(tmp_path / "demo.tar.gz", {**SOURCE, "demo-1.0/big": os.urandom(100_000)})
    source.write_bytes(source.read_bytes()[:50_000])
    with pytest.raises(IntegrityError, match="not an sdist"):
        built(source, [], tmp_path / "work")


@pytest.mark.parametrize("files", [{}, {"a/x": b"", "b/y": b""}, {"file": b""}])
def test_archive_without_one_directory_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(IntegrityError):
        built(packed(tmp_path / "demo.tar.gz", files), [], tmp_path / "work")
