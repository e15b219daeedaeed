"""Targets on custom bases out of layouts, made ready as a build makes them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping

import pytest

from images.build import prepare
from images.build.prepare import Inputs, Prepared
from images.content.custom_base import base_image, base_image_layers
from images.content.custom_base.base_image_layers import Survey
from images.errors import MatrixError
from images.inputs.build_options import FetchOptions
from images.inputs.lock import base_lock, cuda_lock, target_lock
from images.inputs.matrix import base_reference
from images.inputs.matrix.load import load
from images.oci.store.store import Store
from images.repository import ROOT
from images.util.progress import Progress
from tests.unit.layouts import ELF_X86_64

MATRIX = load(ROOT / "matrix.yaml")
TARGET = MATRIX.target("torch280-sglang052")
NVIDIA: Mapping[str, bytes | str] = {
    "usr/local/cuda": "/etc/alternatives/cuda",
    "etc/alternatives/cuda": "/usr/local/cuda-12.8",
    "usr/local/cuda-12.8/bin/nvcc": ELF_X86_64,
    "usr/local/cuda-12.8/version.json": b'{"cuda": {"name": "CUDA SDK", "version": "12.8.1"}}',
}


def inputs(reference: str) -> Inputs:
    target = dataclasses.replace(TARGET, base=reference)
    return Inputs(
        target, target_lock.read(MATRIX, target), base_lock.read(), cuda_lock.read("12.4")
    )


def prepared(digest: str, options: FetchOptions, store: Store) -> Prepared:
    return prepare.ready(inputs(f"oci:base@{digest}"), options, Progress(io.StringIO()), store)


def ready(digest: str, options: FetchOptions, store: Store) -> tuple[Survey, list[str]]:
    recipes = prepared(digest, options, store).recipes
    progress = Progress(io.StringIO())
    survey = base_image_layers.survey(described(digest, options), options.cache, store, progress)
    return survey, [recipe.title for recipe in recipes]


def refused(digest: str, options: FetchOptions, store: Store) -> list[str]:
    """The reasons."""
    with pytest.raises(MatrixError) as caught:
        ready(digest, options, store)
    return caught.value.message.splitlines()[1:]


def described(digest: str, options: FetchOptions) -> base_image.BaseImage:
    return base_image.describe(base_reference.parse(f"oci:base@{digest}"), options)
