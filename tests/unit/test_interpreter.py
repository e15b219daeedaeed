from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from images import fetch, interpreter
from images.deb import Deb
from images.errors import IntegrityError, LockError
from tests.unit.fake_debs import cached_deb

_LIBRARIES = "lib/x86_64-linux-gnu"


def fake_base(cache: Path) -> list[Deb]:
    """Packages with the names of the real ones, and a loader that prints how it was called."""
    files: dict[str, dict[str, bytes]] = {name: {} for name in interpreter._PACKAGES}
    files["python3.11-minimal"] = {"usr/bin/python3.11": b"the program"}
    files["libpython3.11-stdlib"] = {
        "usr/lib/python3.11/os.py": b"",
        "usr/lib/python3.11/lib-dynload/readline.cpython-311-x86_64-linux-gnu.so": b"",
        "usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so": b"",
        "usr/share/doc/python3.11/copyright": b"",
    }
    loader = b'#!/bin/sh\nenv; for x in "$@"; do echo "$x"; done\n'
    files["libc6"] = {f"{_LIBRARIES}/libc.so.6": b"", f"{_LIBRARIES}/bin/none.so": b""}
    files["zlib1g"] = {f"usr/{_LIBRARIES}/libz.so.1.2.13": b"zlib"}
    links = {
        "zlib1g": {f"usr/{_LIBRARIES}/libz.so.1": "libz.so.1.2.13"},
        "libpython3.11-stdlib": {"usr/lib/python3.11/sitecustomize.py": "/etc/sitecustomize.py"},
    }
    debs = [cached_deb(cache, name, files[name], links.get(name)) for name in files]
    return [*debs, cached_deb(cache, "unrelated", {"usr/bin/x": loader})]


def test_only_what_is_needed_is_extracted(tmp_path: Path) -> None:
    debs = fake_base(tmp_path)
    assert {deb.package for deb in interpreter.missing(debs, tmp_path)} == set(
        interpreter._PACKAGES
    )
    python = interpreter.extracted(debs, tmp_path)
    home = Path(python.command[0]).parent.parent
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()) == [
        "bin/python3.11",
        "lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so",
        "lib/python3.11/os.py",
        "libexec/python3.11",
        "libraries/libc.so.6",
        "libraries/libz.so.1",
        "libraries/libz.so.1.2.13",
    ]
    assert (home / "libraries/libz.so.1").read_bytes() == b"zlib"
    assert (home / "libexec/python3.11").stat().st_mode & 0o777 == 0o755
    assert interpreter.missing(debs, tmp_path) == []


def test_it_is_isolated_and_brings_its_whole_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    python = interpreter.extracted(fake_base(tmp_path), tmp_path)
    assert python.command[-2:] == ("-I", "-S")
    assert not [name for name in python.env if name.startswith(("PYTHON", "LD_"))]
    assert python.version == "1"


def test_the_wrapper_starts_the_program_by_its_own_loader(tmp_path: Path) -> None:
    python = interpreter.extracted(fake_base(tmp_path), tmp_path)
    home = Path(python.command[0]).parent.parent
    loader = Path(python.command[0])
    loader.write_text('#!/bin/sh\nfor x in "$@"; do echo "$x"; done\n')
    loader.chmod(0o755)
    done = subprocess.run(
        [home / "bin/python3.11", "-c", "a b"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-3:] == [str(home / "libexec/python3.11"), "-c", "a b"]


def test_it_is_extracted_anew_for_other_packages(tmp_path: Path) -> None:
    debs = fake_base(tmp_path)
    first = interpreter.extracted(debs, tmp_path)
    other = cached_deb(tmp_path, "libc6", {f"{_LIBRARIES}/libc.so.6": b"newer"})
    second = interpreter.extracted([d for d in debs if d.package != "libc6"] + [other], tmp_path)
    assert first.command[0] != second.command[0]


def test_many_at_once_agree(tmp_path: Path) -> None:
    debs = fake_base(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = {
            python.command
            for python in pool.map(lambda _: interpreter.extracted(debs, tmp_path), range(16))
        }
    assert len(found) == 1
    # No half-filled directory is left beside it.
    assert len(list((tmp_path / "interpreters").iterdir())) == 1


def test_a_changed_package_is_found_before_it_runs(tmp_path: Path) -> None:
    debs = fake_base(tmp_path)
    path = fetch.cached(debs[0].artifact, tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError, match="SHA256 mismatch"):
        interpreter.extracted(debs, tmp_path)
    assert not (tmp_path / "interpreters").exists() or not list(
        (tmp_path / "interpreters").iterdir()
    )


def test_a_base_without_python_is_named(tmp_path: Path) -> None:
    debs = [deb for deb in fake_base(tmp_path) if deb.package != "libssl3"]
    with pytest.raises(LockError, match="libssl3"):
        interpreter.missing(debs, tmp_path)
