"""The two kinds of base, as those who use them see them."""

from __future__ import annotations

import dataclasses

import pytest

from images.build import base, prepare
from images.build.titles import Kind
from images.inputs.build_options import FetchOptions
from images.oci.store.store import Store
from tests.unit.custom_bases import MATRIX, NVIDIA, TARGET, described, prepared
from tests.unit.layouts import FIT, Layout


def test_debian_base_is_made_of_locked_packages_alone() -> None:
    inputs = prepare.inputs_of(MATRIX, TARGET)
    found = prepare.Prepared(inputs, inputs.debian_base())
    assert found.base == dataclasses.replace(
        base.debian(inputs.debs), lowest=found.base.lowest
    )  # nothing inherited, no layer, no file, no digest
    assert [recipe.kind for recipe in found.recipes[:2]] == [Kind.DEBIAN, Kind.COMPILER]
    assert list(found.materials.base) == list(inputs.debs)
    assert found.materials.tools == inputs.tools


@pytest.mark.parametrize("compiler", [False, True])
def test_custom_base_lists_itself_and_a_compiler_that_is_added(
    base_layout: Layout, fetch_options: FetchOptions, store: Store, compiler: bool
) -> None:
    files = {**FIT, **NVIDIA} if compiler else FIT
    digest = base_layout.image([base_layout.layer(files)])
    found = prepared(digest, fetch_options, store)
    kinds = [recipe.kind for recipe in found.recipes]
    assert kinds[0] is Kind.VENV
    assert found.base.has_compiler is compiler is (Kind.COMPILER not in kinds)
    assert (found.materials.base, found.materials.tools is None) == ((), compiler)
    assert [layer.title for layer in found.base.layers] == [""]
    assert found.base.digest == digest
    assert set(found.base.artifacts) <= set(found.needed.artifacts)


def test_custom_base_that_was_not_read_counts_as_one_without_a_compiler(
    base_layout: Layout, fetch_options: FetchOptions
) -> None:
    image = described(base_layout.image([base_layout.layer({**FIT, **NVIDIA})]), fetch_options)
    found = base.custom(image, None, TARGET)
    assert (found.has_compiler, found.layers, found.lacking_debs) == (False, (), ())
    assert found.artifacts == image.artifacts
