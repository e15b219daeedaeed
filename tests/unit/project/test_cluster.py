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

from images.attest import evidence, verdict
from images.repository import ROOT
from tests.unit import shell_commands
from tests.unit.linters import lint

CLUSTER = ROOT / "docs" / "cluster"
KUBERNETES = sorted((CLUSTER / "kubernetes").glob("*.yaml"))
SBATCH = sorted((CLUSTER / "slurm").glob("*.sbatch"))
RAY = CLUSTER / "ray" / "raycluster.yaml"
COMPOSE = CLUSTER / "compose.yaml"
JOBS = ROOT / "docs" / "roll"
REPOSITORY = "registry.example.com/team/roll-sglang"
PLAIN, ROLL = "torch280-sglang052", "torch280-sglang052-roll"

Document = dict[str, Any]


def named(path: Path) -> str:
    return path.name


def reference(target: str) -> str:
    """How the files name an image: by the digest that a GPU has proven; by its tag until then."""
    found = evidence.read(ROOT / "evidence" / f"{target}.json")
    digest = verdict.judge_results(found, target, None).image_digest
    return f"{REPOSITORY}@{digest}" if digest else f"{REPOSITORY}:{target}"


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
    lock = (ROOT / "images" / "locks" / f"{ROLL}.txt").read_text()
    assert f"\nray=={cluster['spec']['rayVersion']} " in lock
    assert {item["image"] for item in containers(cluster)} == {reference(ROLL)}


def test_compose_file() -> None:
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


@pytest.mark.parametrize("path", SBATCH, ids=named)
def test_batch_scripts_are_clean(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    lint("shellcheck", path)
    script = path.read_text()
    for command in shell_commands.of_shell(script):
        assert shell_commands.fault(command) is None, command
    # sbatch reads its options up to the first command.
    head = script[: script.index("set -euo pipefail")]
    assert head.count("#SBATCH") == script.count("#SBATCH") > 3


@pytest.mark.parametrize("path", [*KUBERNETES, RAY, COMPOSE], ids=named)
def test_containers_run_what_exists(path: Path) -> None:
    found = [item for document in documents(path) for item in containers(document)]
    assert found
    for command in (item["command"] for item in found if "command" in item):
        if command[:2] == ["python", "-m"]:
            assert shell_commands.fault(command[2:]) is None


def test_images_are_named_by_the_digest_that_is_proven() -> None:
    files = [path for path in CLUSTER.rglob("*") if path.is_file()]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    found = re.findall(rf"{REPOSITORY}[@:][\w.:-]+", text)
    assert len(found) >= 7
    assert set(found) == {reference(PLAIN), reference(ROLL)}


def test_shared_memory_is_larger_than_what_engines_provide() -> None:
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
    wanted = len(gpus(infer))
    assert infer["strategy_args"]["strategy_name"] == "sglang"
    assert wanted % infer["num_gpus_per_worker"] == 0
    workers = documents(RAY)[0]["spec"]["workerGroupSpecs"][0]
    (container,) = workers["template"]["spec"]["containers"]
    a_node = container["resources"]["limits"]["nvidia.com/gpu"]
    assert (a_node, workers["replicas"] * a_node) == (roll["num_gpus_per_node"], wanted)


def gpus(role: Document) -> set[int]:
    """The GPUs of a role, by `device_mapping`."""
    begin, end = re.fullmatch(r"list\(range\((\d+),(\d+)\)\)", role["device_mapping"]).groups()  # type: ignore[union-attr]
    return set(range(int(begin), int(end)))


def job(name: str) -> Document:
    """A configuration of docs/roll, joined with its default as hydra does it."""
    (given,) = documents(JOBS / f"{name}.yaml")
    first, *rest = given.pop("defaults", ["_self_"])
    assert rest == ([] if first == "_self_" else ["_self_"])
    return given if first == "_self_" else joined(job(first), given)


def joined(below: Document, above: Document) -> Document:
    both = {key: value for key, value in above.items() if isinstance(below.get(key), dict)}
    return {**below, **above, **{key: joined(below[key], value) for key, value in both.items()}}


def test_jobs_of_roll_share_gpus_or_do_not() -> None:
    """ROLL's own classes read them where ROLL is: see docs/roll.md."""
    roles = ("actor_train", "reference")
    for name, shared in (("colocated", True), ("separate", False)):
        content = job(name)
        engine = content["actor_infer"]
        assert len(gpus(engine)) % engine["num_gpus_per_worker"] == 0
        assert all((gpus(content[role]) & gpus(engine) != set()) == shared for role in roles)
    assert {path.stem for path in JOBS.iterdir()} == {"colocated", "separate"}


def test_jobs_of_roll_ask_sglang_for_what_it_has() -> None:
    page = (ROOT / "docs" / "roll-runtime.md").read_text()
    refused = re.findall(r"^\| `(\w+)` \| - \|", page, re.MULTILINE)
    assert "gpu_memory_utilization" in refused
    for name in ("colocated", "separate"):
        content = job(name)
        train, infer = content["actor_train"], content["actor_infer"]["strategy_args"]
        assert infer["strategy_name"] == "sglang"
        assert infer["strategy_config"]["load_format"] == "dummy"
        assert not set(infer["strategy_config"]) & set(refused)
        training, answers = train["training_args"], content["num_return_sequences_in_group"]
        batch = training["per_device_train_batch_size"] * training["gradient_accumulation_steps"]
        assert content["rollout_batch_size"] * answers == batch * len(gpus(train))


def test_commented_fp8_settings_are_those_of_the_runtime() -> None:
    text = (CLUSTER / "ray" / "rollout.yaml").read_text()
    (given,) = re.findall(r"# json_model_override_args: ('.*')", text)
    assert f"json_model_override_args: {given}" in (ROOT / "docs" / "roll-runtime.md").read_text()
    assert "quant_method" not in json.loads(ast.literal_eval(given))["quantization_config"]


def test_every_file_is_linked() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    files = [path for path in CLUSTER.rglob("*") if path.is_file()]
    assert [path.name for path in files if f"({path.relative_to(ROOT / 'docs')})" not in page] == []
