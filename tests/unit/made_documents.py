"""What locks, documents and notes are made of fixed inputs, for their format numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from images.attest import provenance, sbom
from images.build import cache_records
from images.build.conflicts import detection
from images.build.conflicts.detection import InstalledFiles
from images.content import runtime_wheel
from images.content.custom_base import facts, file_tree
from images.content.python import interpreter
from images.inputs.lock import base_lock, python_lock, target_lock
from images.inputs.matrix.conflict_rules import Rule
from images.oci import referrer
from images.oci.descriptor import LAYER_TYPE, Blob
from images.oci.referrer import Referrer
from images.oci.store.store import open_store
from tests.unit.attestations import MATERIALS, build_of, image_in
from tests.unit.fake_debs import cached_deb
from tests.unit.layouts import FIT
from tests.unit.layouts import tar_of as layer_of
from tests.unit.small_matrix import SmallMatrix, wheel

BLOB = Blob(f"sha256:{'1' * 64}", f"sha256:{'2' * 64}", 10, 200, LAYER_TYPE + "zstd")


# -- locks -----------------------------------------------------------------------------------------


def lock_of_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    items = [wheel("sglang", 9, "0.5.2"), wheel("torch", 8, "2.8.0")]
    matrix = SmallMatrix(tmp_path).write({"052": items})
    target = matrix.target("torch280-sglang052")
    return target_lock.text_of(target, None, items, [wheel("setuptools", 7)])


def interpreter_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """The digest of its tree; that of its packages depends on their compression."""
    library = "lib/x86_64-linux-gnu"
    files: dict[str, dict[str, bytes]] = {
        "python3.11-minimal": {"usr/bin/python3.11": b"the program"},
        "libpython3.11-stdlib": {
            "usr/lib/python3.11/os.py": b"",
            "usr/lib/python3.11/lib-dynload/readline.cpython-311-x86_64-linux-gnu.so": b"",
            "usr/share/doc/python3.11/copyright": b"",
        },
        "libc6": {f"{library}/libc.so.6": b"libc", f"{library}/ld-linux-x86-64.so.2": b"loader"},
        "zlib1g": {f"usr/{library}/libz.so.1": b"zlib"},
    }
    names = [deb.package for deb in python_lock.packages(base_lock.read())]
    debs = [cached_deb(tmp_path, name, files.get(name, {})) for name in names]
    tree = interpreter.fresh_digest(debs, tmp_path)
    return python_lock.text_of(debs, tree).splitlines()[-1]


# -- documents -------------------------------------------------------------------------------------


def bill_of_materials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(runtime_wheel, "version", lambda: "1.0")
    image = image_in(open_store(tmp_path / "store"))
    base, repository = f"sha256:{'3' * 64}", "registry.example.com/team/base"
    custom = dataclasses.replace(MATERIALS, custom_base=base, base_repository=repository)
    return [sbom.document(image, MATERIALS), sbom.document(image, custom)]


def provenance_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(runtime_wheel, "version", lambda: "1.0")
    monkeypatch.setattr(runtime_wheel, "source_digest", lambda: "4" * 64)
    image = image_in(open_store(tmp_path / "store"))
    run = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_REPOSITORY": "team/images",
        "GITHUB_RUN_ID": "5",
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_WORKFLOW_REF": "team/images/.github/workflows/publish.yml@refs/heads/main",
        "GITHUB_RUN_ATTEMPT": "1",
        "RUNNER_ENVIRONMENT": "github-hosted",
    }
    made_by = dataclasses.replace(build_of(tmp_path / "root", **run), cached={"cache": 3})
    document = Referrer(referrer.SBOM, "one.cdx.json", b"{}", image.descriptor, {})
    return provenance.statement(image, MATERIALS, made_by, document)


def record_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    return [cache_records.tag("a" * 64), cache_records.record("a" * 64, "torch 2.8.0", BLOB)]


# -- notes -----------------------------------------------------------------------------------------


def facts_of_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    upper = {
        "usr/bin/python3.10": b"",
        "usr/local/cuda/bin/nvcc": b"",
        "usr/local/cuda/version.json": b'{"cuda": {"version": "12.4.1"}}',
        "var/lib/dpkg/info/libc6:amd64.list": b"",
        "opt/venv/taken": b"",
        "usr/bin/.wh.g++": b"",
    }
    tree = file_tree.Tree(facts.wanted)
    for files in (FIT, upper):
        tree.add_layer(iter([layer_of(files)]))
    return dataclasses.asdict(facts.read(tree, "/usr/local/bin:/usr/bin"))


def comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    brought = {
        "one": {"a/x.py": "1", "a/y": "2", "same": "3", "d": "4", "opt/bin/nvcc": "9"},
        "two": {"a/x.py": "5", "A/y": "2", "same": "3", "d/e": "6", "a/__pycache__": "7"},
        "three": {"a/x.py": "", "bin/tool": "8"},
    }
    tree = detection.Tree(["one", "two", "three"], {"opt/bin/nvcc": "usr/local/cuda/bin/nvcc"})
    found = tree.add(InstalledFiles("the image", ["opt/bin/nvcc"]))
    for owner, files in brought.items():
        found += tree.add(brought_by(owner, files))
    rules = [Rule("/a/*.py", "two", "one", "why", ""), Rule("/z", "two", "one", "why", "")]
    unsettled = detection.unsettled(found, rules)
    places = [[one[:4] for one in some] for some in (found, unsettled)]
    return [places, detection.unused(found, rules, brought)]


def brought_by(owner: str, files: Mapping[str, str]) -> InstalledFiles:
    return InstalledFiles(owner, files, lambda _: files)
