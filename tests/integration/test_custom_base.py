"""A target on a custom base in a real registry: built, verified, run; unsuitable bases are refused.

The base is the project's Debian base as another image: pushed by skopeo, with a second layer that
removes the virtual environment again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import MATRIX, TARGET, Cli, SmallImage, other_cache
from tests.integration.podman import podman
from tests.integration.registries import need, registry
from tests.unit.layouts import FIT, Layout

BASE_HISTORY: list[dict[str, Any]] = [
    {"created_by": "ADD debian.tar /"},
    {"created_by": "ENV APPROVED=1", "empty_layer": True},
    {"created_by": "RUN rm -r /opt/venv"},
]


@dataclass(frozen=True)
class Base:
    """A custom base.

    Attributes:
        reference: as matrix.yaml has it.
        layers: its layers' digests.
    """

    reference: str
    layers: tuple[str, ...]


def with_base(place: Path, reference: str, store: Path, cache: Path) -> Cli:
    """The small target on a custom base."""
    place.mkdir(parents=True, exist_ok=True)
    text = MATRIX.read_text()
    old = "base:\n  suite: bookworm\n"
    assert old in text
    (place / "matrix.yaml").write_text(text.replace(old, f"base:\n  image: {reference}\n"))
    shutil.copy(MATRIX.with_name(f"{TARGET}.txt"), place)
    return Cli(store, cache, place / "matrix.yaml")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("custom")


@pytest.fixture(scope="module")
def cache(place: Path) -> Path:
    return other_cache(place)


@pytest.fixture(scope="module")
def base(small: SmallImage, place: Path) -> Base:
    layout = Layout(place / "approved")
    lowest = small.document["layers"][0]
    blob = layout.blob(lowest["digest"])
    os.link(small.cli.store / "blobs" / "sha256" / blob.name, blob)
    descriptor = {
        "digest": lowest["digest"],
        "size": lowest["size"],
        "mediaType": lowest["media_type"],
    }
    without = layout.layer({"opt/.wh.venv": b"", "etc/approved": b"yes\n"})
    digest = layout.image(
        [(descriptor, lowest["diff_id"]), without],
        history=BASE_HISTORY,
        Env=["PATH=/approved/bin:/usr/bin:/bin", "APPROVED=1", "CUDA_HOME=/nowhere"],
        Labels={"team": "platform", "org.opencontainers.image.title": "approved"},
        Entrypoint=["/init"],
    )
    return Base(f"oci:approved:base@{digest}", (lowest["digest"], without[0]["digest"]))


@pytest.fixture(scope="module")
def server(base: Base, place: Path) -> Iterator[tuple[str, str]]:
    """A registry's address, and the reference of the base in it."""
    need("skopeo")
    with registry(place) as address:
        source, _, digest = base.reference.partition("@")
        name = f"{address}/team/approved:12"
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--dest-tls-verify=false",
             source, f"docker://{name}"],
            cwd=place, check=True,
        )  # fmt: skip
        yield address, f"{name}@{digest}"


@pytest.fixture(scope="module")
def built(
    small: SmallImage, base: Base, server: tuple[str, str], place: Path, cache: Path
) -> tuple[Cli, dict[str, Any]]:
    """The small target on the base in the registry; all else of it is in the store already."""
    titles = [layer["title"] for layer in small.document["layers"]]
    store = small.copy_to(place, keep=titles[1:]).store
    cli = with_base(place / "of-registry", server[1], store, cache)
    return cli, cli.build("--plain-http")


def test_layers_of_the_base_are_taken_as_they_are(
    small: SmallImage, base: Base, built: tuple[Cli, dict[str, Any]]
) -> None:
    cli, document = built
    layers = document["layers"]
    assert tuple(layer["digest"] for layer in layers[:2]) == base.layers
    assert layers[2]["title"] == "virtual environment of /usr/bin/python3.11"
    assert layers[3:] == [{**layer, "reused": True} for layer in small.document["layers"][1:]]
    assert cli.verified()
    config = json.loads(blob_of(cli, document["config_digest"]).read_bytes())
    assert config["history"][:3] == BASE_HISTORY
    assert len(config["history"]) == len(layers) + 1
    assert config["rootfs"]["diff_ids"] == [layer["diff_id"] for layer in layers]
    assert "Entrypoint" not in config["config"]


def blob_of(cli: Cli, digest: str) -> Path:
    return cli.store / "blobs" / "sha256" / str(digest).removeprefix("sha256:")


def test_environment_and_labels_are_ours_over_the_bases(
    built: tuple[Cli, dict[str, Any]], server: tuple[str, str]
) -> None:
    _, document = built
    path = document["env"]["PATH"].split(":")
    assert path[:2] == ["/opt/venv/bin", "/usr/local/cuda/bin"]
    assert path[-1] == "/approved/bin"
    assert len(path) == len(set(path))
    assert document["env"]["APPROVED"] == "1"
    assert document["env"]["CUDA_HOME"] == "/usr/local/cuda"
    labels = document["labels"]
    assert (labels["team"], labels["org.opencontainers.image.title"]) == ("platform", TARGET)
    name, _, digest = server[1].partition("@")
    assert labels["org.opencontainers.image.base.name"] == name
    assert labels["org.opencontainers.image.base.digest"] == digest


def test_second_build_makes_nothing_and_needs_no_network(built: tuple[Cli, dict[str, Any]]) -> None:
    cli, document = built
    again = cli.build("--offline")
    assert again["manifest_digest"] == document["manifest_digest"]
    assert all(layer["reused"] for layer in again["layers"])
    inspected = cli.run("inspect", "--target", TARGET)
    assert "virtual environment" in inspected.stdout


def test_base_in_a_layout_makes_the_same_image_but_for_its_name(
    base: Base, built: tuple[Cli, dict[str, Any]], place: Path, cache: Path
) -> None:
    cli, document = built
    (place / "layout").mkdir()
    (place / "layout" / "approved").symlink_to(place / "approved")
    other = with_base(place / "layout", base.reference, cli.store, cache).build("--offline")
    assert other["layers"] == [{**layer, "reused": True} for layer in document["layers"]]
    assert "org.opencontainers.image.base.name" not in other["labels"]


def test_fetched_base_travels_with_the_cache(
    built: tuple[Cli, dict[str, Any]], base: Base, server: tuple[str, str], place: Path, cache: Path
) -> None:
    cli, _ = built
    for digest in base.layers:
        (cache / digest.removeprefix("sha256:") / "layer").unlink()
    checked = cli.run("fetch", "--target", TARGET, "--check", "--json")
    assert checked.returncode == 5
    missing = json.loads(checked.stdout)["missing"]
    assert {f"sha256:{file['sha256']}" for file in missing} == set(base.layers)
    fetched = cli.run("fetch", "--target", TARGET, "--plain-http", "--json")
    assert fetched.returncode == 0, fetched.stderr
    assert json.loads(fetched.stdout)["missing"] == []
    listed = cli.run("fetch", "--target", TARGET, "--list").stdout.split()
    names = [path.partition("/")[2] for path in listed]
    assert (names.count("layer"), names.count("manifest.json")) == (2, 1)
    assert not [name for name in names if name.startswith("gcc")]  # none of the Debian base
    assert [name for name in names if name.startswith("python3.11-minimal")]


RUN = """\
import json, os, shutil, subprocess, sys
import packaging, roll_runtime, sqlite3, ssl, yaml
from importlib.metadata import version
cached = packaging.__spec__.cached
print(json.dumps({
    "python": sys.executable, "prefix": sys.prefix, "cached": os.path.exists(cached),
    "sglang": version("sglang"), "env": dict(os.environ), "nvcc": shutil.which("nvcc"),
    "release": subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout,
    "approved": open("/etc/approved").read()}))
"""


def test_image_runs(built: tuple[Cli, dict[str, Any]]) -> None:
    cli, _ = built
    built_last = json.loads(cli.run("inspect", "--target", TARGET, "--json").stdout)
    with podman() as node:
        config = node.pull(f"oci:{cli.store}:{TARGET}")
        assert config == built_last["config_digest"]
        found = json.loads(node.run(config, "python", "-c", RUN))
    assert (found["python"], found["prefix"]) == ("/opt/venv/bin/python", "/opt/venv")
    assert (found["sglang"], found["nvcc"]) == ("0.5.2", "/usr/local/cuda/bin/nvcc")
    assert "release 12.4" in found["release"]
    assert (found["approved"], found["cached"]) == ("yes\n", True)
    assert found["env"]["APPROVED"] == "1"


def test_bundle_runs_where_it_is_unpacked(built: tuple[Cli, dict[str, Any]], place: Path) -> None:
    if os.geteuid():
        pytest.skip("entering a root file system needs root")
    cli, document = built
    out, root = place / "bundle", place / "unpacked"
    bundled = cli.run("bundle", "--target", TARGET, "--out", str(out))
    assert bundled.returncode == 0, bundled.stderr
    unpacker = [sys.executable, str(out / "unpack.py"), "--rootfs", str(root)]
    subprocess.run(unpacker, capture_output=True, text=True, check=True)
    env = [f"{name}={value}" for name, value in document["env"].items()]
    ran = subprocess.run(
        ["chroot", str(root), "/usr/bin/env", "-i", *env, "python", "-c", RUN],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(ran.stdout)
    assert (found["python"], found["prefix"]) == ("/opt/venv/bin/python", "/opt/venv")
    assert (found["approved"], found["cached"]) == ("yes\n", True)
    where = ["--target", TARGET, "--backend", "rootfs", "--rootfs", str(root)]
    tested = cli.run("test", *where, "--", "-k", "layers or environment")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert " passed" in tested.stdout
    shutil.rmtree(root)
    shutil.rmtree(out)


def test_layers_in_a_shared_cache_are_fetched_for_a_bundle(
    built: tuple[Cli, dict[str, Any]], server: tuple[str, str], place: Path
) -> None:
    """The base's are in the store by the build; ours are fetched now, and that is reported."""
    cli, document = built
    shared = f"{server[0]}/team/cache"
    cli.build("--plain-http", "--cache-to", shared)
    other = dataclasses.replace(cli, store=place / "other" / "store")
    again = other.build("--plain-http", "--cache-from", shared)
    assert again["manifest_digest"] == document["manifest_digest"]
    assert [layer["elsewhere"] is None for layer in again["layers"][:4]] == [
        True,
        True,
        False,
        False,
    ]
    out = place / "other" / "bundle"
    bundled = other.run("bundle", "--target", TARGET, "--out", str(out))
    assert bundled.returncode == 0, bundled.stderr
    assert "pull" in bundled.stderr
    assert other.verified()
    assert (out / "bundle.json").is_file()
    shutil.rmtree(place / "other")


def test_flavour_is_built_and_packages_that_the_base_lacks_are_reported(
    built: tuple[Cli, dict[str, Any]],
) -> None:
    """Debian packages are up to the base: it has curl already, and git cannot be locked."""
    cli, document = built
    matrix = cli.matrix.with_name("flavoured.yaml")
    flavour = (
        "flavours:\n  roll:\n    why: a test\n    debian: [curl, git]\n"
        '    env:\n      - {name: OF_ROLL, value: "1", why: a test}\n'
        "defaults:\n  flavours: [roll]\n"
    )
    matrix.write_text(cli.matrix.read_text().replace("defaults:\n", flavour))
    flavoured = dataclasses.replace(cli, matrix=matrix)
    roll = f"{TARGET}-roll"
    locked = flavoured.run("lock", "--target", roll)
    assert locked.returncode == 0, locked.stderr
    done = flavoured.run("build", "--target", roll, "--plain-http", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    layers = [layer["digest"] for layer in document["layers"]]
    assert [layer["digest"] for layer in found["layers"]] == layers
    assert f"{roll}: its base lacks Debian packages of the flavour 'roll': git\n" in done.stderr
    assert "install them in it" in done.stderr


# -- refusals --------------------------------------------------------------------------------------


def refusal(place: Path, reference: str, code: int = 3) -> str:
    """The error output of the build, which must have fetched nothing."""
    cli = with_base(place, reference, place / "store", place / "cache")
    failed = cli.run("build", "--target", TARGET, "--plain-http")
    assert failed.returncode == code, failed.stderr
    assert "Traceback" not in failed.stderr
    assert not list((place / "cache").glob("*/*.whl"))
    assert not list((place / "cache").glob("*/*.deb"))
    return failed.stderr


def test_base_without_a_digest_is_refused_with_the_way_to_find_it(
    server: tuple[str, str], tmp_path: Path
) -> None:
    name, _, digest = server[1].partition("@")
    message = refusal(tmp_path, name)
    assert "matrix.yaml:" in message
    command = f"skopeo inspect --format '{{{{.Digest}}}}' docker://{name}"
    assert command in message
    found = subprocess.run(
        [*command.replace("'", "").split(), "--tls-verify=false"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == digest


def test_missing_base(server: tuple[str, str], tmp_path: Path) -> None:
    message = refusal(tmp_path, f"{server[0]}/team/approved@sha256:{'0' * 64}", code=11)
    assert "not there" in message


def test_base_with_another_python(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "base")
    files = {path.replace("3.11", "3.10"): content for path, content in FIT.items()}
    digest = layout.image([layout.layer(files)])
    message = refusal(tmp_path, f"oci:base@{digest}")
    assert "(Ubuntu 22.04.5 LTS) cannot be the base of torch280-sglang052" in message
    assert "no Python 3.11" in message
    assert "/usr/bin/python3.10" in message


def test_base_of_another_architecture(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "base")
    digest = layout.image([layout.layer(FIT)], architecture="arm64")
    assert "it is for linux/arm64, not for linux/amd64" in refusal(tmp_path, f"oci:base@{digest}")


def test_base_with_too_many_layers(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "base")
    layers = [layout.layer(FIT), *(layout.layer({f"file{n}": b""}) for n in range(95))]
    message = refusal(tmp_path, f"oci:base:base@{layout.image(layers)}")
    assert "it has 96 layers and the target" in message
    assert "squash" in message
