"""What runs is the image that the evidence will name.

A root file system that was unpacked before may be of another one.
"""

from __future__ import annotations

from images.content import runtime_wheel
from tests.image.box import Box
from tests.image.subject import RUNTIME, Subject

DISTRIBUTIONS = """
import importlib.metadata, json, re
print(json.dumps({re.sub("[-_.]+", "-", found.name).lower(): found.version
                  for found in importlib.metadata.distributions()}))
"""
SOURCES = """
import hashlib, json, pathlib, roll_runtime
folder = pathlib.Path(roll_runtime.__file__).parent
print(json.dumps({path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                  for path in folder.glob("*.py")}))
"""


def test_distributions_are_those_of_the_lock(gpu: Box, subject: Subject) -> None:
    assert gpu.ask(DISTRIBUTIONS) == subject.versions
    assert subject.image.labels["roll.runtime.version"] == subject.versions[RUNTIME]


def test_roll_runtime_is_that_of_this_checkout(gpu: Box) -> None:
    assert gpu.ask(SOURCES) == runtime_wheel.modules(), (
        "another roll_runtime: build the image again"
    )
