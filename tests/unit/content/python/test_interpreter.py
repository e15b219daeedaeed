from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from images.content.python import interpreter
from images.errors import IntegrityError, LockError
from images.inputs.fetch import download_cache
from images.inputs.lock import python_lock, sealed_text
from images.inputs.lock.deb import Deb
from images.util import tree_digest
from tests.unit.fake_debs import cached_deb

_LIBRARIES = "lib/x86_64-linux-gnu"


def fake_base(cache: Path) -> list[Deb]:
    """Packages with the names of the real ones, and a loader that prints how it was called."""
    files: dict[str, dict[str, bytes]] = {name: {} for name in python_lock.PACKAGES}
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


@pytest.fixture(autouse=True)
def lock_file(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock of the extracted files; it is in no test's cache."""
    path = tmp_path_factory.mktemp("locks") / "python.txt"
    monkeypatch.setattr(python_lock, "PATH", path)
    return path


def locked_base(cache: Path) -> list[Deb]:
    """The fake base, and the lock of what is extracted of it."""
    debs = fake_base(cache)
    python_lock.PATH.write_text(python_lock.text_of(debs, interpreter.fresh_digest(debs, cache)))
    return debs


def home_of(python: interpreter.Interpreter) -> Path:
    return Path(python.command[0]).parent.parent


def test_only_what_is_needed_is_extracted(tmp_path: Path) -> None:
    debs = locked_base(tmp_path)
    assert {deb.package for deb in interpreter.missing(debs, tmp_path)} == set(python_lock.PACKAGES)
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


def test_it_is_isolated_and_has_its_whole_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    python = interpreter.extracted(locked_base(tmp_path), tmp_path)
    assert python.command[-3:] == ("-B", "-I", "-S")
    assert not [name for name in python.env if name.startswith(("PYTHON", "LD_"))]
    assert python.version == "1"


def test_the_wrapper_starts_the_program_by_its_own_loader(tmp_path: Path) -> None:
    python = interpreter.extracted(locked_base(tmp_path), tmp_path)
    home = Path(python.command[0]).parent.parent
    loader = Path(python.command[0])
    loader.write_text('#!/bin/sh\nfor x in "$@"; do echo "$x"; done\n')
    loader.chmod(0o755)
    done = subprocess.run(
        [home / "bin/python3.11", "-c", "a b"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-4:] == [str(home / "libexec/python3.11"), "-B", "-c", "a b"]


def test_it_is_extracted_anew_for_other_packages(tmp_path: Path) -> None:
    debs = locked_base(tmp_path)
    first = interpreter.extracted(debs, tmp_path)
    other = cached_deb(tmp_path, "libc6", {f"{_LIBRARIES}/libc.so.6": b"newer"})
    newer = [deb for deb in debs if deb.package != "libc6"] + [other]
    with pytest.raises(LockError, match="stale"):
        interpreter.extracted(newer, tmp_path)
    python_lock.PATH.write_text(
        python_lock.text_of(newer, interpreter.fresh_digest(newer, tmp_path))
    )
    second = interpreter.extracted(newer, tmp_path)
    assert first.command[0] != second.command[0]


def test_many_at_once_agree(tmp_path: Path) -> None:
    debs = locked_base(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = {
            python.command
            for python in pool.map(lambda _: interpreter.extracted(debs, tmp_path), range(16))
        }
    assert len(found) == 1
    # No half-filled directory is left beside it.
    assert len(list((tmp_path / "interpreters").iterdir())) == 1


def test_a_changed_package_is_found_before_it_runs(tmp_path: Path) -> None:
    debs = locked_base(tmp_path)
    path = download_cache.cached(debs[0].artifact, tmp_path)
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


def cut_short(home: Path) -> None:
    (home / "libexec/python3.11").write_bytes(b"")


def replaced(home: Path) -> None:
    (home / "libraries/libc.so.6").write_bytes(b"evil")


def added(home: Path) -> None:
    (home / "lib/python3.11/sitecustomize.py").write_bytes(b"print('evil')")


def added_byte_code(home: Path) -> None:
    (home / "lib/python3.11/__pycache__").mkdir()
    (home / "lib/python3.11/__pycache__/os.cpython-311.pyc").write_bytes(b"evil")


def removed(home: Path) -> None:
    (home / "lib/python3.11/os.py").unlink()


def not_to_be_run(home: Path) -> None:
    (home / "libexec/python3.11").chmod(0o644)


def led_elsewhere(home: Path) -> None:
    (home / "libraries/libz.so.1").unlink()
    (home / "libraries/libz.so.1").symlink_to("/tmp/evil.so")


def a_pipe(home: Path) -> None:
    (home / "lib/python3.11/os.py").unlink()
    os.mkfifo(home / "lib/python3.11/os.py")


def a_link_to_the_whole(home: Path) -> None:
    home.rename(home.with_name("elsewhere"))
    (home.with_name("elsewhere") / "libraries/libc.so.6").write_bytes(b"evil")
    home.symlink_to("elsewhere")


def a_file(home: Path) -> None:
    shutil.rmtree(home)
    home.write_bytes(b"")


@pytest.mark.parametrize(
    "damage",
    [cut_short, replaced, added, added_byte_code, removed, not_to_be_run, led_elsewhere, a_pipe,
     a_link_to_the_whole, a_file],
)  # fmt: skip
def test_what_is_not_the_locked_files_is_not_run_but_made_anew(
    tmp_path: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    debs = locked_base(tmp_path)
    home = home_of(interpreter.extracted(debs, tmp_path))
    whole = tree_digest.of(home)
    damage(home)
    monkeypatch.setattr(interpreter, "_hashed", set())  # as in the next process
    assert interpreter.missing(debs, tmp_path), "its packages are wanted again"
    assert home_of(interpreter.extracted(debs, tmp_path)) == home
    assert tree_digest.of(home) == whole
    assert interpreter.missing(debs, tmp_path) == []
    left = {path.name for path in home.parent.iterdir()} - {"elsewhere"}
    assert left == {home.name}


def test_packages_that_give_other_files_than_locked_are_not_run(
    tmp_path: Path, lock_file: Path
) -> None:
    debs = locked_base(tmp_path)
    sealed = sealed_text.read(lock_file, remedy="")
    lock_file.write_text(sealed_text.seal(sealed.inputs, ["tree sha256:" + "0" * 64]))
    with pytest.raises(LockError, match="digest") as caught:
        interpreter.extracted(debs, tmp_path)
    assert caught.value.remedy == "python build.py lock --base"
    assert list((tmp_path / "interpreters").iterdir()) == []
