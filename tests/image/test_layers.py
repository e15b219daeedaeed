"""The image's documents: layers, labels, history."""

from __future__ import annotations

import hashlib
import json

from images.oci.image import MAX_LAYERS
from tests.image.subject import Subject


def test_layers_are_few_enough(subject: Subject) -> None:
    """Docker refuses more than 125, and derived images add theirs."""
    assert 0 < len(subject.image.layers) <= MAX_LAYERS <= 100


def test_labels_tell_the_target(subject: Subject) -> None:
    labels, target = subject.image.labels, subject.target
    assert labels["roll.target"] == labels["org.opencontainers.image.title"] == target.id
    assert labels["roll.sglang.version"] == target.sglang
    assert labels["roll.torch.version"] == target.torch
    assert labels["roll.cuda.version"] == target.cuda
    assert labels["roll.cuda.driver.min"]
    assert labels["roll.cuda.architectures"]
    lock_digest = hashlib.sha256(subject.lock_path.read_bytes()).hexdigest()
    assert labels["roll.lock.sha256"] == lock_digest


def test_labels_are_readable_without_a_pull(subject: Subject) -> None:
    manifest = json.loads(subject.image.manifest)
    assert manifest["annotations"] == dict(subject.image.labels)


def test_history_names_every_layer(subject: Subject) -> None:
    own = subject.image.own_layers
    history = json.loads(subject.image.config)["history"]
    assert history[: -len(own)] == list(subject.image.inherited)
    history = history[-len(own) :]
    assert [item["created_by"] for item in history] == [layer.title for layer in own]
    assert all(item["created_by"] for item in history)
    assert {item["created"] for item in history} == {subject.image.created}


def test_base_is_lowest_and_the_runtime_on_top(subject: Subject) -> None:
    titles = [layer.title for layer in subject.image.own_layers]
    lowest = "virtual environment" if subject.image.inherited else "Debian "
    assert titles[0].startswith(lowest)
    assert titles[-1] == "roll_runtime"


def test_platform(subject: Subject) -> None:
    config = json.loads(subject.image.config)
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
