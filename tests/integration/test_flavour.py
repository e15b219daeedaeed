"""A flavour of the small real target, through every command; twice, and by an ordinary user.

It adds a wheel of the index, an sdist with C sources, a Debian package, a wheel that no index has
and a published one that is supplied as a file. Only its own layers are made here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from images.build import prepare
from images.content.sdist.compiled_build import build as build_compiled
from images.errors import ToolError
from images.inputs.fetch import deb_files, download_cache, mirror
from images.inputs.lock import base_lock, python_lock
from images.inputs.matrix.load import load
from tests.faults import index
from tests.integration import ordinary
from tests.integration.conftest import (
    CACHE,
    MATRIX,
    ROOT,
    TARGET,
    Cli,
    SmallImage,
    need_bookworms_keys,
)
from tests.unit import bundles
from tests.unit.wheels import write_wheel

ROLL = f"{TARGET}-roll"
PUBLISHED = "iniconfig-2.0.0-py3-none-any.whl"
FLAVOUR = """\
flavours:
  roll:
    why: for the tests
    exclude_newer: {{date: 2025-10-01, why: later than the engine}}
    requirements: [six==1.17.0, answer==1.0]
    sdists:
      answer:
        build: [setuptools==80.9.0, packaging==25.0, wheel==0.45.1]
        compiled: "true"
        why: C
    wheels:
      - {{file: {own}, sha256: {own_digest}, why: no index has it}}
      - {{file: {published}, sha256: {published_digest}, why: as if no index had it}}
    debian: [tree]
    env:
      - {{name: ROLL_FLAVOUR, value: "it's a flavour", why: to see it}}
    budget: {{size: 5MB, why: it is small}}
defaults:
"""

# What a build might take from where it runs goes into the wheel: two builds would differ.
SETUP = """\
import glob, json, os, platform, sys, tempfile, time
from setuptools import Extension, setup

facts = {
    "environment": dict(os.environ), "path": sys.path, "zone": time.tzname, "id": os.getuid(),
    "root": sorted(set(os.listdir("/")) - {"sys"}), "home": os.path.expanduser("~"),
    "temporary": tempfile.gettempdir(), "mask": os.umask(0o022), "seed": hash("seed"),
    "here": sorted((path, os.stat(path).st_mtime) for path in glob.glob("*")), "now": os.getcwd(),
}
with open("answer_facts.py", "w") as out:
    out.write("FACTS = " + json.dumps(facts))
setup(
    name="answer", version="1.0", py_modules=["answer_facts"],
    ext_modules=[Extension("answer", glob.glob("src/*.c"))],
)
"""
ANSWER = """\
#include <Python.h>
extern int number(void);
static PyObject *get(PyObject *self, PyObject *none) { return PyLong_FromLong(number()); }
static PyMethodDef methods[] = {{"get", get, METH_NOARGS, __DATE__ __TIME__ __FILE__}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "answer", 0, -1, methods};
PyMODINIT_FUNC PyInit_answer(void) { return PyModule_Create(&module); }
"""
SOURCES = {
    "setup.py": SETUP,
    "src/answer.c": ANSWER,
    "src/number.c": "int number(void) { return 42; }\n",
    "PKG-INFO": "Metadata-Version: 2.2\nName: answer\nVersion: 1.0\n",
}
BUILD = ("setuptools-80.9.0", "packaging-25.0", "wheel-0.45.1")

pytestmark = [
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
    pytest.mark.timeout(900),
]


def write_sdist(place: Path, sources: dict[str, str]) -> Path:
    path = place / "answer-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in sources.items():
            info = tarfile.TarInfo(f"answer-1.0/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


@dataclass(frozen=True)
class Roll:
    """The flavour as it was built first.

    Attributes:
        cli: its matrix and the store, which holds the plain target too.
        documents: the JSON of `build`, of the plain target and of the flavour.
        env: with the index that has the sdist.
        wheels: the directory of the custom wheels.
    """

    cli: Cli
    documents: tuple[dict[str, Any], dict[str, Any]]
    env: dict[str, str]
    wheels: Path

    def json(self, *arguments: str) -> Any:
        done = self.cli.run(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def layers(self, which: int) -> list[str]:
        return [layer["digest"] for layer in self.documents[which]["layers"]]

    @property
    def locks(self) -> Path:
        return self.cli.matrix.parent


@pytest.fixture(scope="module")
def roll(small: SmallImage, tmp_path_factory: pytest.TempPathFactory) -> Roll:
    need_bookworms_keys()
    place = tmp_path_factory.mktemp("roll")
    wheels, cache = place / "wheels", place / "cache"
    wheels.mkdir()
    shutil.copytree(CACHE, cache, copy_function=os.symlink, symlinks=True)
    own = write_wheel(wheels, {"kernel.py": b"x = 1\n"}, name="kernel", version="1.0+cu12")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--dest",
        str(wheels),
    ]
    subprocess.run([*command, "iniconfig==2.0.0"], check=True)
    digests = [hashlib.sha256((wheels / name).read_bytes()) for name in (own.name, PUBLISHED)]
    text = FLAVOUR.format(
        own=own.name,
        own_digest=digests[0].hexdigest(),
        published=PUBLISHED,
        published_digest=digests[1].hexdigest(),
    )
    matrix = place / "rows.yaml"
    row = "    budget: {size: 1GB, why: of the plain one}\n    flavours: [roll]\n"
    matrix.write_text(MATRIX.read_text().replace("defaults:\n", text) + row)
    shutil.copy(MATRIX.with_name(f"{TARGET}.txt"), place)
    titles = [layer["title"] for layer in small.document["layers"]]
    cli = Cli(small.copy_to(place, keep=titles).store, cache, matrix)
    with index.serving() as served:
        served.add(write_sdist(place, SOURCES))
        env = {"UV_INDEX": served.url()}
        custom = ("--wheels", str(wheels))
        done = cli.run("lock", *custom, "--cache", str(cache), env=env)
        assert done.returncode == 0, done.stderr
        assert f"{TARGET}.txt: unchanged" in done.stdout
        assert "debian-roll.txt: locked" in done.stdout
        done = cli.run("build", "--all", "--json", env=env)
        assert done.returncode == 0, done.stderr
    plain, flavour = json.loads(done.stdout)["images"]
    return Roll(cli, (plain, flavour), env, wheels)


# -- layers ----------------------------------------------------------------------------------------


def test_flavour_begins_with_all_layers_of_the_plain_image(roll: Roll, small: SmallImage) -> None:
    plain, flavour = roll.layers(0), roll.layers(1)
    assert roll.documents[0]["manifest_digest"] == small.document["manifest_digest"]
    assert flavour[: len(plain) - 1] == plain[:-1]
    assert flavour[-1] == plain[-1]
    added = [layer["title"] for layer in roll.documents[1]["layers"]][len(plain) - 1 : -1]
    assert added[:3] == ["Debian packages of roll", "environment of logins", "answer 1.0"]
    assert all(title.startswith("small distributions of roll ") for title in added[3:])


def test_plan_says_the_same_before_and_after(roll: Roll, tmp_path: Path) -> None:
    empty = Cli(tmp_path / "store", roll.cli.cache, roll.cli.matrix)
    titles = [layer["title"] for layer in roll.documents[1]["layers"]]
    for cli, there in ((empty, False), (roll.cli, True)):
        done = cli.run("plan", "--target", ROLL, "--json")
        layers = json.loads(done.stdout)["layers"]
        assert [layer["title"] for layer in layers] == titles
        assert {bool(layer["digest"]) for layer in layers} == {there}


def test_nothing_is_made_again_and_no_file_is_asked_for(roll: Roll, tmp_path: Path) -> None:
    """The custom wheels are gone from their directory, and the cache is enough for a build."""
    done = roll.cli.run("build", "--target", ROLL, "--offline", "--json")
    document = json.loads(done.stdout)
    assert document["manifest_digest"] == roll.documents[1]["manifest_digest"]
    assert all(layer["reused"] for layer in document["layers"])
    assert roll.cli.run("fetch", "--target", ROLL, "--check").returncode == 0
    listed = roll.cli.run("fetch", "--target", ROLL, "--list").stdout
    for name in (PUBLISHED, "kernel-1.0+cu12", "answer-1.0.tar.gz", "six-1.17.0", "tree_"):
        assert name in listed
    empty = Cli(tmp_path / "store", tmp_path / "cache", roll.cli.matrix)
    done = empty.run("build", "--target", ROLL, "--offline")
    assert done.returncode == 5
    lines = roll.cli.matrix.read_text().splitlines()
    (line,) = (number for number, text in enumerate(lines, 1) if PUBLISHED in text)
    assert f"rows.yaml:{line}: {PUBLISHED}" in done.stderr
    assert "--wheels DIR" in done.stderr


# -- other commands on it --------------------------------------------------------------------------


def test_diff_and_sizes_see_what_is_shared(roll: Roll) -> None:
    packages = roll.json("diff", TARGET, ROLL, "--json")["packages"]
    added = {kind: [(item["name"], item["from"]) for item in packages[kind]] for kind in packages}
    names = ("answer", "iniconfig", "kernel", "six")
    assert added["distribution"] == [(name, None) for name in names]
    assert added["debian"] == [("tree", None)]
    sizes = {item["target"]: item for item in roll.json("sizes", "--json")["targets"]}
    assert sizes[TARGET]["bytes_alone"] == 0  # all of it is in the flavour too
    assert sizes[ROLL]["bytes_alone"] == sizes[ROLL]["bytes"] - sizes[TARGET]["bytes"]
    assert (sizes[TARGET]["budget"], sizes[ROLL]["budget"]) == (1_000_000_000, 1_005_000_000)


def test_list_and_inspect_know_the_flavour(roll: Roll) -> None:
    rows = {row["target"]: row for row in roll.json("list", "--json")["targets"]}
    assert rows[ROLL]["built"] == roll.documents[1]["manifest_digest"]
    assert rows[ROLL]["locked"] is True
    found = roll.json("inspect", "--target", ROLL, "--json")
    assert [layer["digest"] for layer in found["layers"]] == roll.layers(1)
    assert found["labels"]["roll.flavour"] == "roll"
    assert found["env"]["ROLL_FLAVOUR"] == "it's a flavour"


def test_sbom_has_what_was_added_and_where_it_is_from(roll: Roll) -> None:
    sbom = roll.json("sbom", "--target", ROLL)
    urls = {item["name"]: item.get("purl", "") for item in sbom["components"]}
    assert urls["six"] == "pkg:pypi/six@1.17.0"
    assert urls["answer"] == "pkg:pypi/answer@1.0"
    assert urls["tree"].startswith("pkg:deb/debian/tree@")
    digest = hashlib.sha256((roll.wheels / PUBLISHED).read_bytes()).hexdigest()
    assert urls["iniconfig"] == f"pkg:generic/iniconfig@2.0.0?checksum=sha256:{digest}"
    assert urls["kernel"].startswith("pkg:generic/kernel@1.0%2Bcu12?checksum=sha256:")


def test_provenance_names_the_locks_of_the_flavour(roll: Roll) -> None:
    statement = roll.json("provenance", "--target", ROLL)
    definition = statement["predicate"]["buildDefinition"]
    dependencies = definition["resolvedDependencies"]
    digests = {item.get("digest", {}).get("sha256") for item in dependencies}
    for name in ("rows.yaml", f"{ROLL}.txt", "debian-roll.txt"):
        assert hashlib.sha256((roll.locks / name).read_bytes()).hexdigest() in digests


def test_locks_are_current_and_the_store_is_whole(roll: Roll, tmp_path: Path) -> None:
    assert roll.cli.run("lock", "--check").returncode == 0
    assert roll.cli.verified()
    store = tmp_path / "store"
    shutil.copytree(roll.cli.store, store, copy_function=os.link)
    assert Cli(store, matrix=roll.cli.matrix).run("gc").returncode == 0
    names = {path.name for path in (store / "blobs" / "sha256").iterdir()}
    assert {digest.removeprefix("sha256:") for digest in roll.layers(1)} <= names


def test_budget_is_that_of_the_row_and_of_the_flavour(roll: Roll, tmp_path: Path) -> None:
    text = roll.cli.matrix.read_text()
    shutil.copytree(roll.locks, tmp_path / "m", ignore=shutil.ignore_patterns("store", "cache"))
    tight = tmp_path / "m" / "rows.yaml"
    size = sum(layer["size"] for layer in roll.documents[0]["layers"])
    text = text.replace("size: 1GB", f"size: {size}B").replace("size: 5MB", "size: 1kB")
    tight.write_text(text)
    cli = Cli(roll.cli.store, roll.cli.cache, tight)
    assert cli.run("build", "--target", TARGET, "--offline").returncode == 0
    done = cli.run("build", "--target", ROLL, "--offline")
    assert done.returncode == 13
    assert "roll: it is small" in done.stderr


def test_another_list_of_debian_packages_makes_their_lock_stale(roll: Roll, tmp_path: Path) -> None:
    for file in (roll.cli.matrix, *roll.locks.glob("*.txt")):
        shutil.copy(file, tmp_path)
    matrix = tmp_path / "rows.yaml"
    matrix.write_text(matrix.read_text().replace("debian: [tree]", "debian: [tree, less]"))
    done = Cli(tmp_path / "store", roll.cli.cache, matrix).run("build", "--target", ROLL)
    assert done.returncode == 4
    assert f"lock is stale: the recipe changed since {tmp_path}/debian-roll.txt" in done.stderr
    assert done.stderr.endswith(": python build.py lock\n")
    assert not (tmp_path / "store").exists()


# -- what is in it ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="needs root for chroot")
def test_bundle_of_the_flavour_unpacks_to_something_that_works(roll: Roll, tmp_path: Path) -> None:
    out, root = tmp_path / "bundle", tmp_path / "root"
    done = roll.cli.run("bundle", "--target", ROLL, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert bundles.run(out, "--rootfs", root, "--remove-parts").code == 0
    script = (
        "import answer, answer_facts, kernel, iniconfig, json, six, subprocess\n"
        "assert answer.get() == 42\n"
        "subprocess.run(['tree', '--version'], check=True)\n"
        "print(json.dumps(answer_facts.FACTS))"
    )
    command = ["chroot", str(root), "/opt/venv/bin/python", "-c", script]
    env = {"PATH": "/opt/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    facts = json.loads(ran.stdout.splitlines()[-1])
    assert facts["environment"].keys() <= {
        *("PATH", "HOME", "LC_ALL", "PYTHONHASHSEED", "SOURCE_DATE_EPOCH", "TZ"),
        "SETUPTOOLS_USE_DISTUTILS",
    }
    assert facts["home"] == "/build"
    assert not set(facts["root"]) & {"work", "github", "home.host"}
    assert {time for _, time in facts["here"]} == {315532800}
    profile = (root / "etc/profile.d/roll-images.sh").read_text()
    login = subprocess.run(
        ["sh", "-c", f'{profile}\nprintf %s "$ROLL_FLAVOUR"'], capture_output=True, check=True
    )
    assert login.stdout == b"it's a flavour"
    assert "ROLL_FLAVOUR=it's a flavour\n" in (root / "etc/environment").read_text()
    shutil.rmtree(root)


def readable_by_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in (path, *path.parents))


def test_ordinary_user_makes_the_same_image(roll: Roll, small: SmallImage, tmp_path: Path) -> None:
    """All of the plain image but its last layer is there; the flavour's layers are his."""
    packages = Path(pytest.__file__).parents[1]
    if sys.version_info[:2] != (3, 11) or not readable_by_all(packages):
        pytest.skip("needs packages for the image's Python where every user can read them")
    found = load(roll.cli.matrix)
    inputs = prepare.inputs_of(found, found.target(ROLL))
    titles = [layer["title"] for layer in small.document["layers"][:-1]]
    needs = [file for one in inputs.recipes() if one.title not in titles for file in one.needs]
    needs += [item.artifact for item in python_lock.packages(inputs.debs)]
    seed = tmp_path / "seed"
    small.copy_to(seed, keep=titles)
    for file in (ROOT / "build.py", roll.cli.matrix, *roll.locks.glob("*.txt")):
        shutil.copy(file, seed)
    script = (
        "import sys; from pathlib import Path\n"
        f"seed = Path('seed').absolute(); sys.path[1:1] = [str(seed), {str(packages)!r}]\n"
        "import build\n"
        f"code = build.main(['build', '--target', {ROLL!r}, '--offline', '--cache', 'cache',\n"
        "    '--matrix', f'{seed}/rows.yaml', '--store', f'{seed}/store'])\n"
        "Path('work', 'index').write_bytes(Path(seed, 'store', 'index.json').read_bytes())\n"
        "sys.exit(code)"
    )
    trees = {"seed": seed, "roll_runtime": ROOT / "roll_runtime"}
    with ordinary.user() as name:
        work = ordinary.run(name, dict.fromkeys(needs), roll.cli.cache, script, trees)
        assert roll.documents[1]["manifest_digest"] in (work / "index").read_text()


# -- sdists with C sources that fail ---------------------------------------------------------------


def test_build_that_fails_shows_the_compilers_output_and_reaches_no_network(tmp_path: Path) -> None:
    debs = base_lock.read()
    if download_cache.missing([package.artifact for package in debs], CACHE):
        deb_files.download(debs, mirror.find(), CACHE)
    with index.serving() as served:
        setup = (
            "import socket, sys\n"
            "try:\n"
            f"    socket.create_connection(('127.0.0.1', {served.port}), 5)\n"
            "    print('reached the host', file=sys.stderr)\n"
            "except OSError as error:\n"
            "    print('no network:', error, file=sys.stderr)\n"
        )
        sources = {**SOURCES, "setup.py": setup + SETUP, "src/number.c": "#error no number\n"}
        archive = write_sdist(tmp_path, sources)
        wheels = [next(CACHE.glob(f"*/{name}-py3-none-any.whl")) for name in BUILD]
        (tmp_path / "work").mkdir()
        with pytest.raises(ToolError, match=r"answer-1\.0\.tar\.gz: its build failed:") as caught:
            build_compiled(archive, wheels, debs, CACHE, tmp_path / "work")
        assert served.seen == []
    assert "src/number.c:1:2: error: #error no number" in caught.value.message
    assert "mmdebstrap" not in caught.value.message
    assert "`build:`" in (caught.value.remedy or "")
    log = (tmp_path / "work" / "build.log").read_text()
    if os.getuid() == 0:
        assert "no network: " in log
    assert not list((tmp_path / "work").glob("*.whl"))
