"""Titles of layers: their texts, which are in manifests, and what is parsed out of them."""

from __future__ import annotations

import pytest

from images.build import titles
from images.build.titles import Kind, LayerName

KNOWN = [
    ("Debian bookworm", titles.DEBIAN),
    ("CUDA links", titles.LINKS),
    ("environment of logins", titles.LOGIN),
    ("compiled kernels", titles.KERNELS),
    ("roll_runtime", titles.RUNTIME),
    ("CUDA compiler 12.4", titles.compiler("12.4")),
    ("virtual environment of /usr/bin/python3.11", titles.venv("/usr/bin/python3.11")),
    ("torch 2.8.0", titles.distribution("torch", "2.8.0")),
    ("nvidia-cublas-cu12 12.8.4.1", titles.distribution("nvidia-cublas-cu12", "12.8.4.1")),
    ("small distributions 3/16", titles.bucket(3, 16)),
    ("small distributions of roll 1/3", titles.bucket(1, 3, "roll")),
    ("Debian packages of roll", titles.added_debs("roll")),
]


@pytest.mark.parametrize(("title", "name"), KNOWN, ids=lambda value: str(value))
def test_title_is_parsed_to_the_name_that_it_was_made_of(title: str, name: LayerName) -> None:
    assert name.title == title
    assert titles.parse(title) == name


def test_every_kind_but_that_of_other_layers_has_a_title() -> None:
    assert {name.kind for _, name in KNOWN} == set(Kind) - {Kind.OTHER}


@pytest.mark.parametrize("title", ["", "layer of an older builder", "Torch 2.8.0", "torch two"])
def test_title_of_another_layer_stays_as_it_is(title: str) -> None:
    assert titles.parse(title) == (Kind.OTHER, title, "")
    assert titles.parse(title).title == title


def test_layers_that_differ_in_their_version_are_one_in_any_version() -> None:
    old, new = titles.distribution("torch", "2.8.0"), titles.distribution("torch", "2.9.1")
    assert old.any_version == new.any_version
    assert titles.compiler("12.4").any_version == titles.compiler("13.0").any_version
    assert titles.bucket(3, 16).any_version != titles.bucket(4, 16).any_version
