"""The SBOM: valid, the same for the same image, and complete by the locks."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from images.attest import sbom
from images.attest.materials import Materials
from images.content import runtime_wheel
from images.content.kernels.kernel_inputs import Kernels
from images.inputs.lock import base_lock, cuda_lock, target_lock
from images.inputs.matrix.load import load
from images.oci.image import Image
from images.oci.store.store import open_store
from images.repository import ROOT
from tests.unit.attestations import MATERIALS, RUNTIME, SDIST, image_in, sha256, wheel


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return image_in(open_store(tmp_path / "store"))


def parsed(image: Image, made_from: Materials = MATERIALS) -> dict[str, Any]:
    """The SBOM, validated against CycloneDX's own schema."""
    content = sbom.document(image, made_from)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content.decode()) is None
    document: dict[str, Any] = json.loads(content)
    return document


def by_name(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in document["components"]}


def notes(component: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in component["properties"]}


def test_it_is_about_the_target_and_of_the_inputs_time(image: Image) -> None:
    image = dataclasses.replace(image, labels={"org.opencontainers.image.version": "0.5.2"})
    metadata = parsed(image)["metadata"]
    assert metadata["timestamp"] == "2025-09-20T00:00:00+00:00"
    assert metadata["component"]["type"] == "container"
    assert metadata["component"]["version"] == "0.5.2"
    purl = PackageURL.from_string(metadata["component"]["purl"])
    assert (purl.type, purl.version, purl.qualifiers["tag"]) == ("oci", None, "one")


def test_same_image_gives_the_same_bytes_in_any_process(image: Image, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from images.attest import sbom\n"
        "from images.oci.store import store\n"
        "from tests.unit.attestations import MATERIALS\n"
        "image = store.open_store(Path(sys.argv[1]), create=False).load('one')\n"
        "sys.stdout.buffer.write(sbom.document(image, MATERIALS))\n"
        "sys.stdout.write(sbom.key(image, MATERIALS))"
    )
    made = {sbom.document(image, MATERIALS) + sbom.key(image, MATERIALS).encode()}
    for seed, zone in (("1", "UTC"), ("2", "Pacific/Kiritimati")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C"}
        command = [sys.executable, "-c", script, str(tmp_path / "store")]
        made.add(subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=True).stdout)
    assert len(made) == 1


def test_image_that_differs_in_its_own_code_alone_has_the_same_one(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sbom.document(image, MATERIALS)
    other = image_in(open_store(tmp_path / "store"), content=b"other")
    monkeypatch.setattr(runtime_wheel, "source_digest", lambda: "another")
    assert sbom.document(other, MATERIALS) == made


def test_other_inputs_give_another_serial_number(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = dataclasses.replace(MATERIALS.lock, distributions=MATERIALS.lock.distributions[1:])
    changed = dataclasses.replace(MATERIALS, lock=lock)
    renamed = dataclasses.replace(image, ref="two")
    serials = [parsed(image), parsed(image, changed), parsed(renamed)]
    monkeypatch.setattr(runtime_wheel, "version", lambda: "99")
    serials.append(parsed(image))
    assert len({document["serialNumber"] for document in serials}) == 4


def test_each_locked_file_is_a_component_once(image: Image) -> None:
    document, tools = parsed(image), MATERIALS.tools
    assert tools
    files = {item.artifact.sha256 for item in [*MATERIALS.lock.distributions, *tools.wheels]}
    files |= {item.artifact.sha256 for item in [*MATERIALS.base, *tools.debs]}
    hashes = [item["hashes"][0]["content"] for item in document["components"] if "hashes" in item]
    assert sorted(hashes) == sorted(files)
    whole, *_ = [item for item in document["dependencies"] if "dependsOn" in item]
    assert whole["ref"] == document["metadata"]["component"]["bom-ref"]
    refs = {item["bom-ref"] for item in document["components"]}
    assert set(whole["dependsOn"]) == refs
    assert len(refs) == len(document["components"])


def test_what_only_builds_an_sdist_is_not_in_the_image(image: Image) -> None:
    assert "setuptools" not in by_name(parsed(image))


def test_components_that_are_not_plain_wheels_are_annotated(image: Image) -> None:
    found = by_name(parsed(image))
    assert notes(found["torch"]) == {"roll:file": "torch-2.8.0-py3-none-any.whl"}
    assert notes(found[SDIST.name])["roll:built"] == "from its sdist"
    assert notes(found["nvidia-nvvm"])["roll:part"] == "/usr/local/cuda"
    assert notes(found["nvidia-cuda-toolkit"])["roll:part"] == "/usr/local/cuda"
    assert "roll:part" not in notes(found[RUNTIME.name])  # the target's own, and whole
    assert found["roll-runtime"]["purl"].startswith("pkg:generic/")
    assert found["debian"]["version"] == "12"


def test_compiled_kernels_are_properties_of_what_they_are_of(image: Image) -> None:
    names = ("flashinfer-python", "sglang")
    items = (*MATERIALS.lock.distributions, *(wheel(name) for name in names))
    lock = dataclasses.replace(MATERIALS.lock, distributions=items)
    without = dataclasses.replace(MATERIALS, lock=lock)
    kernels = Kernels(("norm", "sampling"), ("8.0", "9.0a"), (("9.0", ("dense",)),))
    compiled = dataclasses.replace(without, kernels=kernels)
    found = by_name(parsed(image, compiled))
    assert [notes(found[name]).get("roll:kernels") for name in (*names, "torch")] == [
        "norm (8.0, 9.0a), sampling (8.0, 9.0a)",
        "sglang-dense (9.0)",
        None,
    ]
    assert "roll:kernels" not in notes(by_name(parsed(image, without))["sglang"])
    assert sbom.key(image, compiled) != sbom.key(image, without)


@pytest.mark.parametrize(
    ("name", "version", "qualifiers"),
    [
        ("bash", "1.0-1", {"arch": "amd64", "distro": "debian-12"}),
        ("adduser", "1.0-1", {"arch": "all", "distro": "debian-12"}),
        ("libgcc-s1", "12.2.0-14", {"upstream": "gcc-12"}),
        ("gcc", "4:12.2.0-3", {"upstream": "gcc-defaults"}),
        ("libbz2-1.0", "1.0.8-5+b1", {"upstream": "bzip2@1.0.8-5"}),
        ("python3.11", "3.11.2-6+deb12u9", {"arch": "amd64", "distro": "debian-12"}),
        ("nvidia-cuda-toolkit", "12.4~1", {"distro": "debian-13"}),
    ],
)
def test_debian_package_is_named_with_its_release_and_source(
    image: Image, name: str, version: str, qualifiers: dict[str, str]
) -> None:
    purl = PackageURL.from_string(by_name(parsed(image))[name]["purl"])
    assert (purl.type, purl.namespace, purl.version) == ("deb", "debian", version)
    expected = {"arch": "amd64", "distro": "debian-12", **qualifiers}
    assert purl.qualifiers == expected


@pytest.mark.parametrize("target", ["torch280-sglang052", "torch2110-sglang0512"])
def test_real_locks_give_a_valid_sbom(image: Image, target: str) -> None:
    table = load(ROOT / "matrix.yaml")
    row = table.target(target)
    made_from = Materials(
        target_lock.read(table, row), base_lock.read(), cuda_lock.read(row.toolkit)
    )
    document = parsed(image, made_from)
    assert len(document["components"]) > 300
    for item in document["components"]:
        if "purl" in item:
            assert PackageURL.from_string(item["purl"]).version == item["version"]


def test_hash_is_that_of_the_locked_file(image: Image) -> None:
    found = by_name(parsed(image))["torch"]
    wanted = sha256("torch-2.8.0-py3-none-any.whl")
    assert found["hashes"] == [{"alg": "SHA-256", "content": wanted}]


def test_custom_base_is_named_instead_of_debians_packages(image: Image) -> None:
    digest = f"sha256:{'b' * 64}"
    own = dataclasses.replace(
        MATERIALS, base=(), custom_base=digest, base_repository="reg.example.com/team/approved"
    )
    document = parsed(image, own)
    assert "operating-system" not in {item["type"] for item in document["components"]}
    found = by_name(document)["approved"]
    assert (found["type"], found["version"]) == ("container", digest)
    purl = PackageURL.from_string(found["purl"])
    assert purl.qualifiers["repository_url"] == "reg.example.com/team/approved"
