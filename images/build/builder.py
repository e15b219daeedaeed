"""Collects the layers of an image: from the store, from shared caches, or made here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.build.recipe import Recipe
from images.errors import BuildError, StoreError
from images.inputs.build_options import BuildOptions
from images.inputs.lock.deb import Deb
from images.oci.descriptor import Blob
from images.oci.image import MAX_LAYERS, Layer
from images.oci.store.remote_layers import Location, RemoteLayer
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.build.conflicts.comparison import Comparison

CacheLookup = Callable[[Sequence[Recipe]], Mapping[str, RemoteLayer]]
"""Finds layers that are elsewhere, by key."""


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """A layer of the result.

    Attributes:
        layer: what goes into the image.
        reused: whether it was there before, in the store or elsewhere.
        key: the digest of its inputs.
        location: where its bytes are, if they are not in the store.
    """

    layer: Layer
    reused: bool
    key: str
    location: Location | None = None


def make(
    recipes: Sequence[Recipe],
    base_debs: Sequence[Deb],
    options: BuildOptions,
    progress: Progress,
    lookup: CacheLookup | None = None,
    compare: Comparison | None = None,
) -> list[BuiltLayer]:
    """Return the layers of recipes, in their order; those that the store lacks are found or made.

    Args:
        recipes: lowest layer first.
        base_debs: the lock of the Debian base, for the image's interpreter.
        options: of the build.
        progress: reports the stages.
        lookup: finds layers elsewhere; the store then knows them, and does not have their bytes.
            Without it, whatever the store does not have itself is made.
        compare: compares the files of the distributions, each before its layer is begun.

    Raises:
        BuildError: of the kind that fits; layers that were finished are kept.
    """
    if len(recipes) > MAX_LAYERS:
        raise BuildError(
            f"{len(recipes)} layers are more than an image may have ({MAX_LAYERS})",
            remedy="take a flavour or requirements out, or a base image of fewer layers",
        )
    known = {recipe.key: options.store.layer_keys.known(recipe.key) for recipe in recipes}
    lacking = [recipe for recipe in recipes if known[recipe.key] is None]
    remotes: Mapping[str, RemoteLayer] = {}
    if lacking and lookup is not None:
        with progress.timed("lookup"):
            remotes = lookup(lacking)
        lacking = [recipe for recipe in lacking if recipe.key not in remotes]
    if lacking and options.only_known:
        titles = "".join(f"\n  {recipe.title}" for recipe in lacking)
        raise StoreError(
            f"{options.store.path}: {len(lacking)} layers would have to be made:{titles}",
            remedy="build them first, without --only-known",
        )
    if compare is not None:
        _compare_known(recipes, known, options, compare)
        if compare.unsettled:
            compare.stop()
    made: Mapping[str, Blob] = {}
    if lacking:
        from images.build import layer_maker  # a build that makes nothing does without

        made = layer_maker.make(lacking, base_debs, options, progress, compare)
    if compare is not None:
        compare.stop()
    options.store.remote_layers.record(remotes.values())
    return [_result(recipe, known[recipe.key], made, remotes) for recipe in recipes]


def _compare_known(
    recipes: Sequence[Recipe],
    known: Mapping[str, Blob | None],
    options: BuildOptions,
    compare: Comparison,
) -> None:
    """Compare what is here: the layers in the store, and the wheels of those that it lacks."""
    for recipe in recipes:
        if not compare.wants(recipe.distributions):
            continue
        blob = known[recipe.key]
        kept = options.store.layer_keys.records(recipe.key) is not None
        # A layer must not be inflated where its wheels are here, nor taken for whole.
        if blob is None or not kept or compare.lacks_files(recipe.distributions):
            compare.see_cached(recipe.distributions, options.cache)
        if blob is not None and compare.wants(recipe.distributions):
            compare.see_layer(options.store, recipe.key, blob)


def _result(
    recipe: Recipe, known: Blob | None, made: Mapping[str, Blob], remotes: Mapping[str, RemoteLayer]
) -> BuiltLayer:
    if remote := remotes.get(recipe.key):
        return BuiltLayer(Layer(recipe.title, remote.blob), True, recipe.key, remote.location)
    blob = known or made[recipe.key]
    return BuiltLayer(Layer(recipe.title, blob), recipe.key not in made, recipe.key)
