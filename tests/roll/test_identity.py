"""What runs ROLL is the image that the evidence will name."""

from __future__ import annotations

from tests.gpu.test_identity import DISTRIBUTIONS
from tests.image.box import Box
from tests.image.subject import Subject


def test_distributions_are_those_of_the_lock(roll: Box, subject: Subject) -> None:
    assert roll.ask(DISTRIBUTIONS) == subject.versions
