"""A target on a custom base: its recipes, and the files that it needs."""

from __future__ import annotations

import hashlib
import io

from images.build import prepare
from images.inputs.build_options import FetchOptions
from images.inputs.fetch import download_cache
from images.oci.store.store import Store
from images.util.progress import Progress
from tests.unit.custom_bases import (
    NVIDIA,
    inputs,
    prepared,
    ready,
)
from tests.unit.layouts import FIT, Layout


def test_base_with_a_compiler_keeps_its_own(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    survey, titles = ready(
        base_layout.image([base_layout.layer({**FIT, **NVIDIA})]), fetch_options, store
    )
    assert (survey.facts.compiler, survey.facts.nvcc) == ("12.8", True)
    assert not [title for title in titles if title.startswith("CUDA compiler")]
    assert "CUDA links" in titles


def test_layers_are_keyed_as_on_the_debian_base(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    """All but the lowest and the kernels, which it does not get, are the same blobs."""
    own = inputs("")
    found = prepared(base_layout.image([base_layout.layer(FIT)]), fetch_options, store)
    ours = {recipe.title: recipe.key for recipe in own.recipes()}
    theirs = {recipe.title: recipe.key for recipe in found.recipes}
    differing = {
        title for title in ours.keys() | theirs.keys() if ours.get(title) != theirs.get(title)
    }
    lowest = {"Debian bookworm", "virtual environment of /usr/bin/python3.11"}
    assert differing == {*lowest, "compiled kernels"}
    assert "compiled kernels" in ours
    assert own.kernels is not None
    assert found.materials.kernels is None


def test_fetch_replaces_a_damaged_layer(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    descriptor, diff_id = base_layout.layer(FIT)
    one = inputs(f"oci:base@{base_layout.image([(descriptor, diff_id)])}")
    ready(one.target.base.partition("@")[2], fetch_options, store)
    path = fetch_options.cache / descriptor["digest"].removeprefix("sha256:") / "layer"
    path.unlink()
    path.write_bytes(bytes(descriptor["size"]))
    progress = Progress(io.StringIO())
    wanted = prepare.ready(one, fetch_options, progress, verify=True).needed
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.parent.name
    assert download_cache.missing(wanted.base, fetch_options.cache) == []
    names = {deb.package for deb in wanted.debs.values()}
    assert "python3.11-minimal" in names
    assert "gcc-12" not in names
