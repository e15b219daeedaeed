"""The labels of an image, for every target of the matrix."""

from __future__ import annotations

import pytest

from images.build import base
from images.build.assemble import assemble
from images.content.custom_base.base_image import BaseImage
from images.inputs.lock.artifact import Artifact
from images.inputs.matrix.base_reference import parse
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Target
from images.repository import ROOT

TARGETS = load(ROOT / "matrix.yaml").targets
HOPPER = ["sm_80", "sm_86", "sm_89", "sm_90"]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target.id))
def test_labels_name_what_the_image_runs_on(target: Target) -> None:
    labels = assemble(target, "0" * 64, []).labels
    architectures = labels["roll.cuda.architectures"].split()
    cuda_12 = target.cuda.startswith("12.")
    assert architectures == HOPPER + ([] if cuda_12 else ["sm_100", "sm_103", "sm_120", "sm_121"])
    assert labels["roll.cuda.version"] == target.cuda
    assert labels["roll.cuda.driver.min"] == ("525.60.13" if cuda_12 else "580.65.06")


def test_image_for_some_gpus_says_so() -> None:
    target = load(ROOT / "matrix.yaml").target("torch280-sglang052-roll-sm80-sm90")
    image = assemble(target, "0" * 64, [])
    assert image.ref == image.labels["roll.target"] == "torch280-sglang052-roll-sm80-sm90"
    assert image.labels["org.opencontainers.image.title"] == image.ref
    assert image.labels["roll.cuda.architectures"] == "sm_80 sm_90"
    assert image.env["ROLL_RUNTIME_GPUS"] == "8.0 9.0"
    assert image.labels["roll.flavour"] == "roll"


def test_labels_and_environment_of_a_custom_base() -> None:
    reference = parse(f"reg.example.com/base:1@sha256:{'a' * 64}")
    documents: tuple[Artifact, ...] = ()
    env = {"PATH": "/a:/usr/bin", "CUDA_HOME": "/b", "THEIRS": "1"}
    astray = ("PYTHONPATH", "LD_LIBRARY_PATH", "NCCL_VERSION", "PYTORCH_ALLOC_CONF", "http_proxy")
    env |= dict.fromkeys(astray, "x")
    labels = {"org.opencontainers.image.source": "x", "roll.target": "y", "team": "z"}
    own = BaseImage(reference, "sha256:1", "linux/amd64", (), env, labels, (), documents)
    image = assemble(TARGETS[0], "0" * 64, [], base.custom(own, None, TARGETS[0]).inherited)
    plain = assemble(TARGETS[0], "0" * 64, [])
    assert image.env["PATH"] == f"{plain.env['PATH']}:/a"
    assert (image.env["CUDA_HOME"], image.env["THEIRS"]) == ("/usr/local/cuda", "1")
    assert not image.env.keys() & set(astray)
    assert dict(image.labels) == {
        **plain.labels,
        "team": "z",
        "org.opencontainers.image.base.digest": "sha256:1",
        "org.opencontainers.image.base.name": "reg.example.com/base:1",
    }
