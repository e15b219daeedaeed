"""An ordinary user who builds: nothing of the tests' own files is open to him."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from images.content.python import interpreter
from images.inputs.fetch import download_cache
from images.inputs.lock import base_lock
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb

ROOT = Path(__file__).resolve().parent.parent.parent


@contextmanager
def user() -> Iterator[str]:
    """A user with subordinate ids and a home that nobody else can enter."""
    if os.getuid() != 0 or shutil.which("newuidmap") is None:
        pytest.skip("needs root and uidmap to make a user")
    name = "roll-images-test"
    home = Path(tempfile.mkdtemp(prefix="roll-images-home-"))
    command = ["useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/sh"]
    subprocess.run([*command, name], check=True)
    try:
        found = pwd.getpwnam(name)
        home.chmod(0o700)
        os.chown(home, found.pw_uid, found.pw_gid)
        yield name
    finally:
        subprocess.run(["userdel", name], check=True)
        shutil.rmtree(home)


def run(
    name: str,
    files: Iterable[Deb | Artifact],
    cache: Path,
    script: str,
    trees: Mapping[str, Path] = MappingProxyType({}),
) -> Path:
    """Run Python as that user, with a umask, a time zone, a locale and a home of his own.

    The script finds `images` to import; a download cache with the files is in `cache`, an empty
    directory in `work`, both below the current directory, and copies of the trees beside them.
    Gives the place of `work`.
    """
    found = pwd.getpwnam(name)
    home = Path(found.pw_dir)
    for tree, source in {"images": ROOT / "images", **trees}.items():
        shutil.copytree(source, home / tree, symlinks=True)
    for file in files:
        artifact = file.artifact if isinstance(file, Deb) else file
        copy = download_cache.cached(artifact, home / "cache")
        copy.parent.mkdir(parents=True)
        shutil.copyfile(download_cache.cached(artifact, cache), copy)
    (home / "work").mkdir()
    for directory, _, names in os.walk(home):
        for path in (Path(directory), *(Path(directory) / name for name in names)):
            os.chown(path, found.pw_uid, found.pw_gid, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(0o700 if path.is_dir() else 0o600)
    with _python(cache) as (command, env):
        subprocess.run(
            [*command, "-c", f"import sys; sys.path.insert(0, {str(home)!r})\n{script}"],
            env={**env, "TZ": "Asia/Shanghai", "LANG": "de_DE.UTF-8", "HOME": str(home)},
            cwd=home,
            user=found.pw_uid,
            group=found.pw_gid,
            extra_groups=[],
            umask=0o077,
            check=True,
        )
    return home / "work"


@contextmanager
def _python(cache: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """A Python that every user can start; that of the tests may be in a closed directory."""
    python = interpreter.extracted(base_lock.read(), cache)
    own = Path(python.command[0]).parent.parent
    shared = Path(tempfile.mkdtemp(prefix="roll-images-python-"))
    try:
        shutil.copytree(own, shared, dirs_exist_ok=True)
        shared.chmod(0o755)
        yield [part.replace(str(own), str(shared)) for part in python.command], python.env
    finally:
        shutil.rmtree(shared)
