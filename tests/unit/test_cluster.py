"""docs/cluster: manifests and scripts have the form that clusters want, and name what exists."""

from __future__ import annotations

import ast
import copy
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import tomli
import yaml

from tests.unit import commands
from tests.unit.linters import lint

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "docs" / "cluster"
KUBERNETES = sorted((CLUSTER / "kubernetes").glob("*.yaml"))
SBATCH = sorted((CLUSTER / "slurm").glob("*.sbatch"))
RAY = CLUSTER / "ray" / "raycluster.yaml"
COMPOSE = CLUSTER / "compose.yaml"
PROVEN = json.loads((ROOT / "evidence" / "torch280-sglang052.json").read_text())["image"]

Document = dict[str, Any]


def named(path: Path) -> str:
    return path.name


def documents(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def validate(document: Document) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def templates(cluster: Document) -> Iterator[Document]:
    """The Pods of a RayCluster, in a kind of Kubernetes' own."""
    spec = cluster["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        yield {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {"name": "pod"},
            "template": group["template"],
        }


def containers(value: Any) -> Iterator[Document]:
    """Every container in a document, of whatever kind."""
    if isinstance(value, dict):
        yield from (value,) if "image" in value else ()
        for item in value.values():
            yield from containers(item)
    elif isinstance(value, list):
        for item in value:
            yield from containers(item)


@pytest.mark.parametrize("path", KUBERNETES, ids=named)
def test_manifests_are_kubernetes(path: Path) -> None:
    for document in documents(path):
        validate(document)


def test_misspelt_key_is_found() -> None:
    (job, *_) = documents(CLUSTER / "kubernetes" / "job.yaml")
    spoilt = copy.deepcopy(job)
    spoilt["spec"]["template"]["spec"]["imagePullSecret"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePullSecret"):
        validate(spoilt)


def test_ray_cluster() -> None:
    """KubeRay's schema ships with KubeRay alone: its few fields are listed, its Pods validated."""
    (cluster,) = documents(RAY)
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    assert set(cluster["spec"]) <= {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    group = {"rayStartParams", "template"}
    assert set(cluster["spec"]["headGroupSpec"]) == group
    group |= {"groupName", "replicas", "minReplicas", "maxReplicas"}
    assert all(set(worker) == group for worker in cluster["spec"]["workerGroupSpecs"])
    for template in templates(cluster):
        validate(template)
    dockerfile = (CLUSTER / "ray" / "Dockerfile").read_text()
    assert f"ray[default,cgraph]=={cluster['spec']['rayVersion']}" in dockerfile


def test_compose_file() -> None:
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


@pytest.mark.parametrize("path", SBATCH, ids=named)
def test_batch_scripts_are_clean(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    lint("shellcheck", path)
    script = path.read_text()
    for command in commands.of_shell(script):
        assert commands.fault(command) is None, command
    # sbatch reads its options up to the first command.
    head = script[: script.index("set -euo pipefail")]
    assert head.count("#SBATCH") == script.count("#SBATCH") > 3


@pytest.mark.parametrize("path", [*KUBERNETES, RAY, COMPOSE], ids=named)
def test_containers_run_what_exists(path: Path) -> None:
    found = [item for document in documents(path) for item in containers(document)]
    assert found
    for command in (item["command"] for item in found if "command" in item):
        if command[:2] == ["python", "-m"]:
            assert commands.fault(command[2:]) is None


def test_digests_are_of_the_proven_image() -> None:
    files = [path for path in CLUSTER.rglob("*") if path.is_file()]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    digests = re.findall(r"sha256:[0-9a-f]{64}", text)
    assert len(digests) >= 6
    assert set(digests) == {PROVEN["manifest_digest"]}


def test_shared_memory_is_larger_than_what_engines_give() -> None:
    """Everything that asks for a GPU has a /dev/shm of its own."""
    pods = [document for path in KUBERNETES for document in documents(path)]
    pods += templates(documents(RAY)[0])
    asking = [text for text in map(json.dumps, pods) if '"nvidia.com/gpu":' in text]
    assert len(asking) == 3
    assert all('"mountPath": "/dev/shm"' in text for text in asking)
    assert all('"medium": "Memory"' in text for text in asking)
    assert all("shm_size" in service for service in documents(COMPOSE)[0]["services"].values())


def test_containerd_mirror() -> None:
    hosts = tomli.loads((CLUSTER / "mirror" / "hosts.toml").read_text())
    (mirror,) = hosts["host"].values()
    assert set(mirror["capabilities"]) == {"pull", "resolve"}
    tomli.loads((CLUSTER / "mirror" / "registries.conf").read_text())


def test_roll_configuration_gives_whole_engines() -> None:
    (roll,) = documents(CLUSTER / "ray" / "rollout.yaml")
    infer = roll["actor_infer"]
    begin, end = re.fullmatch(r"list\(range\((\d+),(\d+)\)\)", infer["device_mapping"]).groups()  # type: ignore[union-attr]
    gpus = int(end) - int(begin)
    assert infer["strategy_args"]["strategy_name"] == "sglang"
    assert gpus % infer["num_gpus_per_worker"] == 0
    workers = documents(RAY)[0]["spec"]["workerGroupSpecs"][0]
    (container,) = workers["template"]["spec"]["containers"]
    a_node = container["resources"]["limits"]["nvidia.com/gpu"]
    assert (a_node, workers["replicas"] * a_node) == (roll["num_gpus_per_node"], gpus)


def test_commented_fp8_settings_are_those_of_the_runtime() -> None:
    text = (CLUSTER / "ray" / "rollout.yaml").read_text()
    (given,) = re.findall(r"# json_model_override_args: ('.*')", text)
    assert f"json_model_override_args: {given}" in (ROOT / "docs" / "roll-runtime.md").read_text()
    assert "quant_method" not in json.loads(ast.literal_eval(given))["quantization_config"]


def test_every_file_is_told_of() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    files = [path for path in CLUSTER.rglob("*") if path.is_file()]
    assert [path.name for path in files if f"({path.relative_to(ROOT / 'docs')})" not in page] == []
