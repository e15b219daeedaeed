"""Own bases out of layouts: their documents, their facts, and every reason to refuse one."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from images.build import prepare
from images.build.prepare import Inputs, Prepared
from images.content.cuda import toolkit
from images.content.custom_base import base_image, base_layers, fit
from images.content.custom_base.base_layers import Survey
from images.content.debian import rootfs
from images.errors import BuildError, FetchError, IntegrityError, MatrixError, UsageError
from images.inputs.build_options import FetchOptions
from images.inputs.fetch import download_cache
from images.inputs.lock import target_lock
from images.inputs.matrix import base_reference
from images.inputs.matrix.matrix import load
from images.oci import image
from images.oci.store.store import Store, open_store
from images.repository import ROOT
from images.util.progress import Progress
from tests.unit.layouts import ELF_ARM64, ELF_X86_64, FIT, GZIP, LIBC, Layout, libc, tar_of

MATRIX = load(ROOT / "matrix.yaml")
TARGET = MATRIX.target("torch280-sglang052")
NVIDIA: Mapping[str, bytes | str] = {
    "usr/local/cuda": "/etc/alternatives/cuda",
    "etc/alternatives/cuda": "/usr/local/cuda-12.8",
    "usr/local/cuda-12.8/bin/nvcc": ELF_X86_64,
    "usr/local/cuda-12.8/version.json": b'{"cuda": {"name": "CUDA SDK", "version": "12.8.1"}}',
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "base")


@pytest.fixture
def options(tmp_path: Path) -> FetchOptions:
    return FetchOptions(cache=tmp_path / "cache", matrix=tmp_path / "matrix.yaml", jobs=2)


def inputs(reference: str) -> Inputs:
    target = dataclasses.replace(TARGET, base=reference)
    return Inputs(target, target_lock.read(MATRIX, target), rootfs.locked(), toolkit.locked("12.4"))


def prepared(digest: str, options: FetchOptions, store: Store) -> Prepared:
    return prepare.ready(inputs(f"oci:base@{digest}"), options, Progress(io.StringIO()), store)


def ready(digest: str, options: FetchOptions, store: Store) -> tuple[Survey, list[str]]:
    recipes = prepared(digest, options, store).recipes
    progress = Progress(io.StringIO())
    survey = base_layers.survey(described(digest, options), options.cache, store, progress)
    return survey, [recipe.title for recipe in recipes]


def refused(digest: str, options: FetchOptions, store: Store) -> list[str]:
    """The reasons."""
    with pytest.raises(MatrixError) as caught:
        ready(digest, options, store)
    return caught.value.message.splitlines()[1:]


# -- what fits -------------------------------------------------------------------------------------


def test_fit_base_gets_our_compiler(layout: Layout, options: FetchOptions, store: Store) -> None:
    survey, titles = ready(layout.image([layout.layer(FIT)]), options, store)
    facts = survey.facts
    assert (facts.system, facts.glibc, facts.python) == (
        "Ubuntu 22.04.5 LTS", "2.35", "/usr/bin/python3.11",
    )  # fmt: skip
    assert (facts.nvcc, facts.cuda_home) == (False, False)
    assert titles[:2] == ["virtual environment of /usr/bin/python3.11", "CUDA compiler 12.4"]
    assert "Debian bookworm" not in titles


def test_debian_packages_of_a_flavour_are_held_against_those_of_the_base(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    names = ("git.list", "git.md5sums", "rsync:amd64.list")
    dpkg = {f"var/lib/dpkg/info/{name}": b"" for name in names}
    lower = layout.layer({**FIT, **dpkg, "var/lib/dpkg/info/tmux.list": b""})
    digest = layout.image([lower, layout.layer({"var/lib/dpkg/info/.wh.tmux.list": b""})])
    facts = ready(digest, options, store)[0].facts
    assert facts.debian == ("git", "rsync")
    target = dataclasses.replace(TARGET, flavour="roll", debian=("git", "rsync", "tmux"))
    assert fit.lacking_debs(target, facts) == ("tmux",)
    none = ready(layout.image([layout.layer(FIT)]), options, store)[0].facts
    assert fit.lacking_debs(target, none) == ("git", "rsync", "tmux")


def test_base_with_a_compiler_keeps_its_own(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    survey, titles = ready(layout.image([layout.layer({**FIT, **NVIDIA})]), options, store)
    assert (survey.facts.compiler, survey.facts.nvcc) == ("12.8", True)
    assert not [title for title in titles if title.startswith("CUDA compiler")]
    assert "CUDA links" in titles


def test_layers_are_keyed_as_on_our_own_base(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    """All but the lowest, the links and the environment are the same blobs for every base."""
    own = inputs("")
    found = prepared(layout.image([layout.layer(FIT)]), options, store)
    ours = {recipe.title: recipe.key for recipe in own.recipes()}
    theirs = {recipe.title: recipe.key for recipe in found.recipes}
    differing = {
        title for title in ours.keys() | theirs.keys() if ours.get(title) != theirs.get(title)
    }
    assert differing == {"Debian bookworm", "virtual environment of /usr/bin/python3.11"}


def test_what_a_download_cache_says_of_a_base_decides_about_no_layer(
    layout: Layout, options: FetchOptions, store: Store, tmp_path: Path
) -> None:
    digest = layout.image([layout.layer(FIT)])
    survey, _ = ready(digest, options, store)
    (kept,) = options.cache.glob("*/facts-*.json")
    kept.write_text(kept.read_text().replace(survey.facts.python, "/opt/evil/python"))
    assert ready(digest, options, store)[0].facts == survey.facts
    assert ready(digest, options, open_store(tmp_path / "other"))[0].facts == survey.facts


def test_python_elsewhere_on_the_path(layout: Layout, options: FetchOptions, store: Store) -> None:
    files = {path.replace("usr/", "opt/python/"): content for path, content in FIT.items()
             if "ython3" in path}  # fmt: skip
    rest = {path: content for path, content in FIT.items() if "ython3" not in path}
    digest = layout.image([layout.layer({**rest, **files})], Env=["PATH=/opt/python/bin:/usr/bin"])
    survey, titles = ready(digest, options, store)
    assert survey.facts.python == "/opt/python/bin/python3.11"
    assert titles[0] == "virtual environment of /opt/python/bin/python3.11"


def test_link_to_a_python_without_a_library_beside_it_is_followed(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    files: dict[str, bytes | str] = {
        path.replace("usr/", "opt/p/"): content for path, content in FIT.items() if "ython3" in path
    }
    files |= {path: content for path, content in FIT.items() if "ython3" not in path}
    files["usr/local/bin/python3.11"] = "/opt/p/bin/python3.11"
    survey, _ = ready(layout.image([layout.layer(files)]), options, store)
    assert survey.facts.python == "/opt/p/bin/python3.11"


# -- what does not ---------------------------------------------------------------------------------


def without(*paths: str) -> dict[str, bytes | str]:
    return {path: content for path, content in FIT.items() if path not in paths}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({path.replace("3.11", "3.12"): x for path, x in FIT.items()},
         "no Python 3.11 with its standard library on its PATH (there is /usr/bin/python3.12)"),
        (without("usr/lib/python3.11/os.py"), "no Python 3.11 with its standard library"),
        ({**FIT, "usr/bin/python3.11": ELF_ARM64}, "not an x86-64 program (ELF machine 183)"),
        ({**FIT, "usr/bin/python3.11": b"#!/bin/sh\n"}, "not an x86-64 program (ELF machine 0)"),
        ({**FIT, "usr/lib/python3.11/__pycache__/os.cpython-311.pyc": b"\xcb\x0d\x0d\x0a"},
         "magic number cb0d0d0a"),
        ({**FIT, LIBC: libc("2.27")}, "its glibc is 2.27, and torch==2.8.0 needs 2.28"),
        ({**FIT, LIBC: libc("2.31")}, "no CUDA compiler: the one added needs glibc 2.34"),
        (without(LIBC), "it has no glibc 2"),
        (without("usr/bin/g++"), "it lacks g++"),
        (without("usr/bin/gcc-12"), "it lacks gcc"),
        (without("usr/include/python3.11/Python.h"), "lacks /usr/include/python3.11/Python.h"),
        (without("usr/lib/x86_64-linux-gnu/libnuma.so.1"), "it lacks libnuma.so.1"),
        ({**FIT, "opt/venv/bin/x": b""}, "/opt/venv is taken"),
        ({**FIT, "opt": "/data/opt"}, "/opt is taken"),
        ({**FIT, **NVIDIA, "usr/local/cuda-12.8/version.json": b"{}"}, "no version.json"),
        ({**FIT, **NVIDIA, "usr/local/cuda-12.8/version.json":
          b'{"cuda": {"version": "13.0.1"}}'}, "compiler is 13.0, and the target is for CUDA 12.8"),
        ({**FIT, "usr/local/cuda/lib64/libcudart.so.12": b""}, "/usr/local/cuda without nvcc"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_files_that_do_not_fit(
    layout: Layout, options: FetchOptions, store: Store, files: dict[str, bytes | str], reason: str
) -> None:
    reasons = refused(layout.image([layout.layer(files)]), options, store)
    assert any(reason in told for told in reasons), reasons


def test_all_reasons_are_told_at_once(layout: Layout, options: FetchOptions, store: Store) -> None:
    layers = [layout.layer(without("usr/bin/gcc", "usr/bin/python3.11"))] * 40
    reasons = refused(layout.image(layers), options, store)
    for word in ("Python 3.11", "gcc", "40 layers and the target"):
        assert any(word in reason for reason in reasons), reasons


def test_whiteout_of_an_upper_layer_counts(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    layers = [layout.layer(FIT), layout.layer({"usr/bin/.wh.python3.11": b""})]
    assert "no Python 3.11" in refused(layout.image(layers), options, store)[0]


def test_nothing_but_the_base_was_fetched_for_a_refusal(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    digest = layout.image([layout.layer(FIT)], architecture="arm64")
    assert "linux/arm64" in refused(digest, options, store)[0]
    assert not list(options.cache.glob("*/layer"))


def test_layers_of_other_kinds_are_refused(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    descriptor, diff_id = layout.layer(FIT)
    plain = {**descriptor, "mediaType": "application/vnd.oci.image.layer.v1.tar"}
    assert "dest-compress" in refused(layout.image([(plain, diff_id)]), options, store)[0]


# -- documents -------------------------------------------------------------------------------------


def described(digest: str, options: FetchOptions) -> base_image.BaseImage:
    return base_image.describe(base_reference.parse(f"oci:base@{digest}"), options)


def test_index_gives_the_image_for_linux_amd64(layout: Layout, options: FetchOptions) -> None:
    images = {
        name: layout.image([layout.layer({name: b""})], architecture=name)
        for name in ("arm64", "amd64")
    }
    index = {
        "schemaVersion": 2,
        "manifests": [
            {"digest": digest, "size": 1, "platform": {"os": "linux", "architecture": name}}
            for name, digest in images.items()
        ],
    }
    digest = layout.named(json.dumps(index).encode(), image.INDEX_TYPE, "both")
    found = described(digest, options)
    assert found.manifest_digest == images["amd64"]
    assert len(found.documents) == 3
    del index["manifests"][1]  # type: ignore[attr-defined]
    digest = layout.named(json.dumps(index).encode(), image.INDEX_TYPE, "other")
    with pytest.raises(MatrixError, match="for linux/arm64, not for linux/amd64"):
        described(digest, options)


def test_dockers_names_of_layers_become_ocis(layout: Layout, options: FetchOptions) -> None:
    descriptor, diff_id = layout.layer(FIT)
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    found = described(layout.image([({**descriptor, "mediaType": kind}, diff_id)]), options)
    assert [blob.media_type for blob in found.blobs] == [GZIP]


@pytest.mark.parametrize("told", [None, [], [{"created_by": "x"}] * 3])
def test_history_that_does_not_tell_of_all_layers_is_made_up(
    layout: Layout, options: FetchOptions, told: list[dict[str, Any]] | None
) -> None:
    layers = [layout.layer({"a": b""}), layout.layer({"b": b""})]
    assert len(described(layout.image(layers, history=told), options).history) == 2


def test_what_is_no_image_is_told(layout: Layout, options: FetchOptions) -> None:
    digest = layout.named(b'{"layers": 7}', image.MANIFEST_TYPE, "x")
    with pytest.raises(IntegrityError, match="not an OCI or Docker image"):
        described(digest, options)


def test_damaged_layout_is_told(layout: Layout, options: FetchOptions, store: Store) -> None:
    descriptor, diff_id = layout.layer(FIT)
    digest = layout.image([(descriptor, diff_id)])
    path = layout.blob(descriptor["digest"])
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(IntegrityError, match="has other bytes"):
        ready(digest, options, store)
    path.unlink()
    with pytest.raises(FetchError, match="has no sha256:"):
        ready(digest, options, store)


def test_tar_that_is_not_the_configs_is_told(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    descriptor, _ = layout.layer(FIT)
    with pytest.raises(IntegrityError, match="its tar is not the"):
        ready(layout.image([(descriptor, f"sha256:{'0' * 64}")]), options, store)


def test_gzip_of_several_members_is_read_to_its_end(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    tar = tar_of(FIT)
    middle = len(tar) // 2
    packed = gzip.compress(tar[:middle]) + gzip.compress(tar[middle:])
    descriptor = {**layout.put(packed), "mediaType": GZIP}
    survey, _ = ready(layout.image([(descriptor, image.digest(tar))]), options, store)
    assert [layer.blob.unpacked for layer in survey.layers] == [len(tar)]


# -- cache and store -------------------------------------------------------------------------------


def test_what_is_in_the_cache_is_not_asked_for(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    digest = layout.image([layout.layer(FIT), layout.layer({"a": b""})])
    first, _ = ready(digest, options, store)
    offline = dataclasses.replace(options, offline="python build.py fetch --all")
    layout.path.rename(layout.path.with_name("gone"))
    assert ready(digest, offline, store)[0] == first
    (path,) = options.cache.glob("*/manifest.json")
    path.unlink()
    with pytest.raises(FetchError) as caught:
        ready(digest, offline, store)
    assert "manifest sha256:" in caught.value.message
    assert caught.value.remedy == "where there is a network: python build.py fetch --all"


def test_layers_go_into_the_store_whole(
    layout: Layout, options: FetchOptions, store: Store
) -> None:
    digest = layout.image([layout.layer(FIT)])
    survey, _ = ready(digest, options, store)
    assert base_layers.put(survey.layers, options.cache, store) == [False]
    assert base_layers.put(survey.layers, options.cache, store) == [True]
    assert store.verify() == []
    value = image.Image("t", survey.layers, {}, {}, "t", described(digest, options).history)
    store.save(value)
    assert store.load("t") == value
    assert store.gc().blobs == 0


def test_fetch_mends_a_damaged_layer(layout: Layout, options: FetchOptions, store: Store) -> None:
    descriptor, diff_id = layout.layer(FIT)
    one = inputs(f"oci:base@{layout.image([(descriptor, diff_id)])}")
    ready(one.target.base.partition("@")[2], options, store)
    path = options.cache / descriptor["digest"].removeprefix("sha256:") / "layer"
    path.unlink()
    path.write_bytes(bytes(descriptor["size"]))
    progress = Progress(io.StringIO())
    wanted = prepare.ready(one, options, progress, verify=True).needed
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.parent.name
    assert download_cache.missing(wanted.base, options.cache) == []
    names = {deb.package for deb in wanted.debs.values()}
    assert "python3.11-minimal" in names
    assert "gcc-12" not in names


# -- references ------------------------------------------------------------------------------------

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "repository", "layout"),
    [
        (f"reg.example.com/team/base@{DIGEST}", "reg.example.com/team/base", ""),
        (f"localhost:5000/base:12@{DIGEST}", "localhost:5000/base", ""),
        (f"oci:bases/cuda@{DIGEST}", None, "bases/cuda"),
        (f"oci:/data/bases:12.8@{DIGEST}", None, "/data/bases"),
    ],
)
def test_reference(text: str, repository: str | None, layout: str) -> None:
    found = base_reference.parse(text)
    assert str(found) == text
    assert (found.digest, found.layout) == (DIGEST, layout)
    assert (str(found.repository) if found.repository else None) == repository


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reg.example.com/base:12", "names no digest"),
        ("oci:base:12", "names no digest"),
        ("reg.example.com/base@sha256:abc", "'sha256:abc' is no digest"),
        (f"reg.example.com/base@sha512:{'a' * 128}", "is no digest"),
        (f"ubuntu@{DIGEST}", "names no registry"),
        (f"docker://reg.example.com/base@{DIGEST}", "no scheme"),
        (f"oci:@{DIGEST}", "names no directory"),
    ],
)
def test_reference_that_is_none(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        base_reference.parse(text)
    assert said in caught.value.message
    assert said in (base_reference.wrong(text) or "")
    assert isinstance(caught.value, BuildError)


def test_way_to_find_a_digest_is_told() -> None:
    told = "skopeo inspect --format '{{.Digest}}' "
    assert f"{told}docker://r.io/a:1" in (base_reference.wrong("r.io/a:1") or "")
    assert f"{told}oci:a:1" in (base_reference.wrong("oci:a:1") or "")
