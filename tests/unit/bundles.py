"""Small real images, bundles of them, and their unpacker run as users run it."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from images.export.bundle import bundle, delta, planning
from images.export.bundle.bundle import WrittenBundle
from images.oci.descriptor import Blob, Compression
from images.oci.image import Image, Layer
from images.oci.layer import writer
from images.oci.layer.entry import Entry, of_bytes, of_symlink
from images.oci.store import store
from images.oci.store.store import Store

PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
"""Not the one that runs the tests, where there is another: nothing is installed in it for us."""


@dataclass(frozen=True)
class Done:
    """A run of the unpacker."""

    code: int
    out: str
    said: str


def noise(size: int, seed: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def add(layout: Store, entries: Iterable[Entry], compression: Compression = "zstd") -> Blob:
    with layout.blobs.new_file() as (out, commit):
        blob = writer.write(entries, out, compression)
        commit(blob.digest)
    return blob


def entries_of_one_file(size: int) -> list[Entry]:
    return [of_bytes("file", noise(size, 7))]


def save(layout: Store, ref: str, *blobs: Blob, env: dict[str, str] | None = None) -> Image:
    layers = tuple(Layer(f"layer {number}", blob) for number, blob in enumerate(blobs))
    environment = {"PATH": "/usr/bin:/bin", "SAID": "it's $HOME"} if env is None else env
    image = Image(ref, layers, environment, {"roll.target": ref}, "2025-01-01T00:00:00Z")
    layout.save(image)
    return image


def three_layers(place: Path) -> tuple[Store, Image]:
    """A store with one image: both compressions, links, modes, and a file of two layers."""
    layout = store.open_store(place)
    base = [
        of_bytes("bin/tool", noise(60_000, 1), 0o4755),
        Entry("bin/same", "hardlink", target="bin/tool"),
        of_symlink("bin/link", "/nowhere/at/all"),
        Entry("etc/closed", "dir", 0o500),
        of_bytes("etc/closed/file", b"x" * 300_000, 0o440),
        of_bytes("etc/version", b"old\n"),
        Entry("etc/owned", "file", 0o644, uid=12, gid=34),
    ]
    large = [of_bytes("opt/large", noise(900_000, 2)), of_bytes("opt/nul", bytes(3_000_000))]
    top = [of_bytes("etc/version", b"new\n"), of_bytes("opt/ünïcode 文", noise(40_000, 3), 0o600)]
    blobs = [add(layout, base), add(layout, large, "gzip"), add(layout, top)]
    return layout, save(layout, "small", *blobs)


def make(
    layout: Store,
    image: Image,
    out: Path,
    part_size: int = 100_000,
    have: Sequence[Path] = (),
    since: Sequence[str] = (),
) -> WrittenBundle:
    plan = planning.plan(layout, image, delta.read_inventories(have, since))
    return bundle.write(plan, out, part_size)


def run(out: Path, *arguments: object, python: str = PYTHON, umask: int = -1) -> Done:
    """Run the bundle's own unpacker; a traceback is never what a user should see."""
    done = subprocess.run(
        [python, str(out / "unpack.py"), *map(str, arguments)],
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
        umask=umask,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return the attributes of all below a directory that a layer determines."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = (path.read_bytes(), status.st_nlink, status.st_mtime)
        elif stat.S_ISLNK(status.st_mode):
            content = path.readlink()
        owner = (status.st_uid, status.st_gid) if os.geteuid() == 0 else None
        name = str(path.relative_to(root))
        found[name] = (kind, stat.S_IMODE(status.st_mode), owner, content)
    return found


def record(root: Path) -> dict[str, Any]:
    """Return the content of `DIR.json`."""
    value: dict[str, Any] = json.loads(Path(f"{root}.json").read_text())
    return value


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*"))


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def host_library() -> Path:
    """The libzstd of this machine."""
    for path in Path("/usr/lib/x86_64-linux-gnu").glob("libzstd.so.1.*"):
        return path
    pytest.skip("this machine has no Debian libzstd1 to make a bundle's from")


def old_python() -> str:
    """Return a Python 3.8 of this machine."""
    places = [*Path.home().glob(".pyenv/versions/3.8.*/bin/python3"), shutil.which("python3.8")]
    for place in map(str, filter(None, places)):
        if subprocess.run([place, "-c", ""], capture_output=True, check=False).returncode == 0:
            return place
    pytest.skip("there is no Python 3.8 here")
