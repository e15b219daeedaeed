"""A tiny target that goes through the whole flow in a second or two, by the command line.

Its wheels and its sdist come from a package index on the loopback interface, its lock from
`build.py lock`. The interpreter is the image's real one. Base and CUDA compiler alone are not made:
the stores begin with stand-ins for them, under their keys.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from images.build import base, layer_recipes
from images.build.recipe import Recipe
from images.content.python import interpreter
from images.inputs.fetch import deb_files, download_cache, mirror
from images.inputs.lock import base_lock, cuda_lock, target_lock
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.load import load
from images.oci.descriptor import Compression
from images.oci.image import Image, Layer
from images.oci.layer import writer
from images.oci.layer.entry import of_bytes
from images.oci.store import store as stores
from images.oci.store.maintenance import verify
from tests.faults.index import Index
from tests.unit.wheels import write_wheel

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("ROLL_IMAGES_CACHE") or Path.home() / ".cache" / "roll-images")
TARGET = "torch280-sglang052"
KEPT = ("Debian bookworm", "CUDA compiler 12.4")

MATRIX = """\
platform: nvidia-cuda
python: "3.11"
base:
  suite: bookworm
toolkit:
  "12": "12.4"
locks: .
defaults:
  dependencies: false
  requirements: [{requirements}]
  sdists:
    sourced:
      build: [backend==1.0]
      why: its wheel is made by us
  env:
    - name: PATH
      value: /opt/venv/bin:/usr/bin:/bin
      why: as in the real targets
targets:
  - id: torch280-sglang052
    sglang: 0.5.2
    torch: 2.8.0
    cuda: "12.8"
    exclude_newer:
      date: 2025-09-16
      why: as in the real target
"""

# What builds `sourced`: it packs the files beside it.
BACKEND = b"""
import base64, hashlib, pathlib, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    info = "sourced-1.0.dist-info"
    sources = sorted(pathlib.Path("src").iterdir())
    files = {"sourced/" + path.name: path.read_bytes() for path in sources}
    files[info + "/METADATA"] = b"Metadata-Version: 2.1\\nName: sourced\\nVersion: 1.0\\n"
    files[info + "/WHEEL"] = b"Wheel-Version: 1.0\\nTag: py3-none-any\\n"
    record = "".join(
        "%s,sha256=%s,%d\\n" % (name, base64.urlsafe_b64encode(hashlib.sha256(body).digest())
                               .decode().rstrip("="), len(body))
        for name, body in files.items()
    )
    files[info + "/RECORD"] = (record + info + "/RECORD,,\\n").encode()
    name = "sourced-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory) / name, "w") as archive:
        for path, body in files.items():
            archive.writestr(zipfile.ZipInfo(path), body)
    return name
"""


@dataclass(frozen=True)
class Done:
    """The result of a command."""

    code: int
    out: str
    said: str


@dataclass(frozen=True)
class Tiny:
    """The tiny target: its matrix and lock, a store to begin with, and what a build needs.

    Attributes:
        index: the package index.
        place: the directory of matrix, lock, `seed` (a store) and uv's cache.
        store: the store of this copy.
        cache: its download cache.
        env: more environment of the commands.
    """

    index: Index
    place: Path
    store: Path
    cache: Path
    env: Mapping[str, str]

    @property
    def matrix(self) -> Path:
        """The matrix."""
        return self.place / "matrix.yaml"

    @property
    def lock(self) -> Path:
        """The target's lock."""
        return self.place / f"{TARGET}.txt"

    def environment(self) -> dict[str, str]:
        """Return the environment of commands: only the tiny index, and a uv cache of its own."""
        own = {
            "UV_DEFAULT_INDEX": self.index.url(),
            "UV_CACHE_DIR": str(self.place / "uv"),
            "UV_NO_CONFIG": "1",
        }
        dropped = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_URL")
        host = {name: value for name, value in os.environ.items() if name not in dropped}
        return {**host, **own, **self.env}

    def command(self, *arguments: str) -> list[str]:
        """A command line of `build.py`."""
        name, *rest = arguments
        options = ["--matrix", str(self.matrix), "--store", str(self.store)]
        options += ["--cache", str(self.cache)] if name == "build" else []
        if name in ("build", "lock", "load", "push", "bundle"):
            options += ["--target", TARGET]
        return [sys.executable, str(ROOT / "build.py"), name, *options, *rest]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
            start_new_session=True,
            **options,
        )

    def run(self, *arguments: str, **options: Any) -> Done:
        """Run a command to its end; whatever happens, no traceback is shown."""
        with self.start(*arguments, **options) as process:
            out, said = process.communicate()
        assert "Traceback" not in said, said
        return Done(process.returncode, out, said)

    def build(self, *options: str, **settings: Any) -> str:
        """Build the target, which must succeed; return the manifest's digest."""
        done = self.run("build", "--json", *options, **settings)
        assert done.code == 0, done.said
        return str(json.loads(done.out)["manifest_digest"])

    def verified(self) -> bool:
        """Return whether `verify` finds no fault in the store."""
        return not verify(stores.open_store(self.store, create=False))

    def fresh(self, place: Path, *, warm: bool = False) -> Tiny:
        """A store that holds base and compiler alone, with a download cache, empty or full.

        Args:
            place: an empty or missing directory for both.
            warm: whether the cache holds all files.
        """
        copy = replace(self, store=place / "store", cache=place / "cache")
        copy.fill_store()
        copy.fill_cache(warm=warm)
        return copy

    def fill_store(self) -> None:
        """Put the store to begin with in its place."""
        shutil.copytree(self.place / "seed", self.store, dirs_exist_ok=True)

    def fill_cache(self, *, warm: bool) -> None:
        """Make the download cache; the interpreter in it is a link to the one of all tests."""
        self.cache.mkdir(parents=True, exist_ok=True)
        (self.cache / "interpreters").symlink_to(CACHE / "interpreters")
        if warm:
            for item in self.locked():
                fetch_into(self.cache, item, self.index.files[item.artifact.filename])

    def locked(self) -> list[Distribution]:
        """Everything in the lock."""
        read = self._lock()
        return [*read.distributions, *read.build]

    def _lock(self) -> Lock:
        found = load(self.matrix)
        return target_lock.read(found, found.target(TARGET))

    def recipes(self, compression: Compression = "zstd") -> list[Recipe]:
        """The target's layers."""
        debs = base_lock.read()
        return layer_recipes.recipes(
            self._lock(), debs, cuda_lock.read("12.4"), compression, base.debian(debs)
        )

    def keep(self, recipes: Sequence[Recipe], compression: Compression = "zstd") -> None:
        """Put stand-ins for base and compiler into the store to begin with.

        An image names them, so that `gc` leaves them there.
        """
        seed = stores.open_store(self.place / "seed")
        kept = []
        for recipe in recipes:
            if recipe.title in KEPT:
                entries = [of_bytes(f"usr/share/kept/{recipe.title}", recipe.title.encode())]
                with seed.blobs.new_file() as (out, commit):
                    blob = writer.write(entries, out, compression)
                    commit(blob.digest)
                seed.layer_keys.remember(recipe.key, blob)
                kept.append(Layer(recipe.title, blob))
        seed.save(Image(f"kept-{compression}", tuple(kept), {}, {}, "2025-01-01T00:00:00Z"))


def fetch_into(cache: Path, item: Distribution, content: bytes) -> Path:
    """Put a locked file into a download cache."""
    path = download_cache.cached(item.artifact, cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def make(index: Index, place: Path) -> Tiny:
    """Publish the target's files, lock it, and make the store to begin with."""
    _interpreter()
    files = place / "files"
    files.mkdir(parents=True)
    for path in _distributions(files):
        index.add(path)
    names = [name.split("-")[:2] for name in index.files if not name.startswith("backend")]
    pins = [f'"{name}=={version.removesuffix(".tar.gz")}"' for name, version in names]
    tiny = Tiny(index, place, place / "unused", place / "no-cache", {})
    tiny.matrix.write_text(MATRIX.format(requirements=", ".join(pins).replace("_", "-")))
    done = tiny.run("lock")
    assert done.code == 0, done.said
    tiny.keep(tiny.recipes())
    tiny.keep(tiny.recipes("gzip"), "gzip")
    return tiny


def _interpreter() -> None:
    """See to it that the cache of all tests has the image's interpreter."""
    debs = base_lock.read()
    wanted = interpreter.missing(debs, CACHE)
    if download_cache.missing([item.artifact for item in wanted], CACHE):
        deb_files.download(wanted, mirror.find(), CACHE)
    interpreter.extracted(debs, CACHE)


def _distributions(place: Path) -> list[Path]:
    """An engine, a large wheel, one with a library, some small ones, an sdist and its backend."""
    chance = random.Random(52)
    engine = {
        f"sglang/module{number}.py": f"def f{number}(x):\n    return x + {number}\n".encode() * 20
        for number in range(60)
    }
    engine["sglang/__init__.py"] = b'__version__ = "0.5.2"\n'
    wheels = [
        write_wheel(place, engine, name="sglang", version="0.5.2"),
        write_wheel(place, {"heavy/data.bin": chance.randbytes(1_500_000)}, name="heavy"),
        write_wheel(
            place,
            {"nvidia/curand/lib/libcurand.so.10": b"\x7fELF", "nvidia/__init__.py": b""},
            name="nvidia_curand_cu12",
            version="10.3.9.90",
        ),
        write_wheel(place, {"backend.py": BACKEND}, name="backend"),
    ]
    for name in ("one", "two", "three", "four", "five", "six"):
        files = {f"{name}/__init__.py": b"x = 1\n", f"{name}/data": chance.randbytes(20_000)}
        wheels.append(write_wheel(place, files, name=name))
    return [*wheels, _sdist(place / "sourced-1.0.tar.gz")]


def _sdist(path: Path) -> Path:
    files = {
        "pyproject.toml": b'[build-system]\nrequires = ["backend"]\nbuild-backend = "backend"\n',
        "PKG-INFO": b"Metadata-Version: 2.2\nName: sourced\nVersion: 1.0\n",
        "src/__init__.py": b"made = 'here'\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"sourced-1.0/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
