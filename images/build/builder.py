"""Makes the layers that a store does not hold yet, and the image of them.

Downloads run beside the making of layers: a layer is begun as soon as its files are there. Layers
are made by threads; the time goes into inflating, hashing and compressing, which let go of the
interpreter's lock, and into the processes of mmdebstrap and the byte compilers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images.build.recipe import LayerContext, Recipe, files_of
from images.content.python import interpreter
from images.content.python.bytecode import Compiler
from images.content.python.interpreter import Interpreter
from images.errors import BuildError, IntegrityError, StoreError
from images.inputs.fetch import needed_files
from images.inputs.fetch.downloads import CONNECTIONS, Downloads
from images.inputs.fetch.needed_files import Arriving
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb
from images.inputs.resolve import file_urls
from images.oci.descriptor import Blob, Compression
from images.oci.image import MAX_LAYERS, Layer
from images.oci.layer import writer
from images.oci.store.remote_layers import Location, RemoteLayer
from images.oci.store.store import Store
from images.util.progress import Meter, Progress, size

if TYPE_CHECKING:
    from images.build.conflicts.comparison import Comparison

Look = Callable[[Sequence[Recipe]], Mapping[str, RemoteLayer]]
"""Finds layers that lie elsewhere, by key."""

_FLUSHING = 2  # layers whose bytes are on their way to the disk, beside those that are being made
_UNPACK_RATIO = 2.2  # content bytes for each byte of a wheel, over torch280-sglang052
_OTHER_FILES = (
    "the locked files are so wherever they come from: pin another version in matrix.yaml, "
    "then python build.py lock --target ID"
)
_BEFORE_DISK = 0.95  # of a layer's weight: done but for what the disk has not written yet


@dataclass(frozen=True, slots=True)
class Settings:
    """How to build.

    Attributes:
        store: where layers are kept.
        cache: the download cache.
        compression: of the layers.
        jobs: layers at a time.
        mirror: what a person set as the Debian mirror, if anything.
        offline: the command that brings what the cache lacks, when no network may be used; "" when
            one may.
        only_known: make no layer.
    """

    store: Store
    cache: Path
    compression: Compression
    jobs: int
    mirror: str | None
    offline: str = ""
    only_known: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A layer of the result.

    Attributes:
        layer: what goes into the image.
        reused: whether it was there before, in the store or elsewhere.
        key: the digest of its inputs.
        place: where its bytes are, if they are not in the store.
    """

    layer: Layer
    reused: bool
    key: str
    place: Location | None = None


def make(
    recipes: Sequence[Recipe],
    base_debs: Sequence[Deb],
    settings: Settings,
    progress: Progress,
    look: Look | None = None,
    compare: Comparison | None = None,
) -> list[Made]:
    """The layers of the recipes, in their order; those that the store lacks are found or made.

    Args:
        recipes: lowest layer first.
        base_debs: the locked base, for the image's interpreter.
        settings: how to build.
        progress: told of the stages.
        look: finds layers elsewhere; the store then knows them, and does not have their bytes.
            Without it, whatever the store does not hold itself is made.
        compare: compares the files of the distributions, each before its layer is begun.

    Raises:
        BuildError: of the kind that fits; layers that were finished are kept.
    """
    if len(recipes) > MAX_LAYERS:
        raise BuildError(
            f"{len(recipes)} layers are more than an image may have ({MAX_LAYERS})",
            remedy="take a flavour or requirements out, or a base image of fewer layers",
        )
    known = {recipe.key: settings.store.layer_keys.known(recipe.key) for recipe in recipes}
    lacking = [recipe for recipe in recipes if known[recipe.key] is None]
    remotes: Mapping[str, RemoteLayer] = {}
    if lacking and look is not None:
        with progress.timed("lookup"):
            remotes = look(lacking)
        lacking = [recipe for recipe in lacking if recipe.key not in remotes]
    if lacking and settings.only_known:
        titles = "".join(f"\n  {recipe.title}" for recipe in lacking)
        raise StoreError(
            f"{settings.store.path}: {len(lacking)} layers would have to be made:{titles}",
            remedy="build them first, without --only-known",
        )
    if compare is not None:
        _see(recipes, known, settings, compare)
        if compare.unsettled:
            compare.stop()
    made = _make_all(lacking, base_debs, settings, progress, compare) if lacking else {}
    if compare is not None:
        compare.stop()
    settings.store.remote_layers.record(remotes.values())
    return [_result(recipe, known[recipe.key], made, remotes) for recipe in recipes]


def _see(
    recipes: Sequence[Recipe],
    known: Mapping[str, Blob | None],
    settings: Settings,
    compare: Comparison,
) -> None:
    """Compare what is here: the layers in the store, and the wheels of those that it lacks."""
    for recipe in recipes:
        if not compare.wants(recipe.distributions):
            continue
        blob = known[recipe.key]
        kept = settings.store.layer_keys.records(recipe.key) is not None
        if blob is None or not kept:  # a layer must not be inflated where its wheels are here
            compare.see_cached(recipe.distributions, settings.cache)
        if blob is not None and compare.wants(recipe.distributions):
            compare.see_layer(settings.store, recipe.key, blob)


def _result(
    recipe: Recipe, known: Blob | None, made: Mapping[str, Blob], remotes: Mapping[str, RemoteLayer]
) -> Made:
    if remote := remotes.get(recipe.key):
        return Made(Layer(recipe.title, remote.blob), True, recipe.key, remote.location)
    blob = known or made[recipe.key]
    return Made(Layer(recipe.title, blob), recipe.key not in made, recipe.key)


def _make_all(
    lacking: Sequence[Recipe],
    base_debs: Sequence[Deb],
    settings: Settings,
    progress: Progress,
    compare: Comparison | None,
) -> dict[str, Blob]:
    with ExitStack() as stack:
        arriving = _start_downloads(lacking, base_debs, settings, progress, stack)
        total = sum(recipe.weight for recipe in lacking)
        meter = stack.enter_context(progress.stage("layers", total))
        maker = stack.enter_context(_Maker(base_debs, settings, meter, compare))
        return maker.run(lacking, arriving)


def _start_downloads(
    lacking: Sequence[Recipe],
    base_debs: Sequence[Deb],
    settings: Settings,
    progress: Progress,
    stack: ExitStack,
) -> Arriving:
    """Begin to fetch what the cache lacks; heavy files first, as their layers take longest."""
    from images.build import preflight  # for those who make layers: loading it takes a while

    cache = settings.cache
    absent = files_of(lacking, interpreter.missing(base_debs, cache)).absent(cache)
    if absent.artifacts and settings.offline:
        raise needed_files.not_here(absent, cache, settings.offline)
    preflight.check(lacking, absent.size, cache, settings.store.path)
    if not absent.artifacts:
        return {}
    with progress.timed("index"):
        urls = file_urls.locate(absent, settings.mirror, cache)
    meter = stack.enter_context(progress.stage("fetch", absent.size))
    downloads = stack.enter_context(Downloads(cache, jobs=CONNECTIONS, advance=meter.advance))
    arriving = {file: downloads.start(file, urls[file]) for file in absent.artifacts}
    _when_all_done(arriving, meter.end)
    return arriving


def _when_all_done(arriving: Arriving, call: Callable[[], None]) -> None:
    """Making layers goes on after the last download: its time is not the downloads'."""
    left = threading.Semaphore(len(arriving) - 1)

    def count(_: Future[Path]) -> None:
        if not left.acquire(blocking=False):
            call()

    for future in arriving.values():
        future.add_done_callback(count)


class _CancelledError(Exception):
    """Another layer failed, or the person pressed Ctrl-C."""


class _Maker:
    """Makes layers, a few at a time, the heaviest of those whose files are there first."""

    def __init__(
        self,
        base_debs: Sequence[Deb],
        settings: Settings,
        meter: Meter,
        compare: Comparison | None,
    ) -> None:
        self._base_debs = base_debs
        self._compare = compare
        self._settings = settings
        self._meter = meter
        self._debs: dict[Artifact, Deb] = {}
        self._stop = threading.Event()
        self._stack = ExitStack()
        self._slots = threading.Semaphore(settings.jobs)
        self._threads = settings.jobs + _FLUSHING
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="layer")

    def __enter__(self) -> _Maker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        self._stack.close()

    def run(self, lacking: Sequence[Recipe], arriving: Arriving) -> dict[str, Blob]:
        """Make all of them; gives their blobs by key.

        Raises:
            BuildError: a layer's own, or one that lists all files that did not arrive.
        """
        self._debs = dict(files_of(lacking, self._base_debs).debs)
        python = self._interpreter(arriving)
        compiler = self._stack.enter_context(Compiler(python.command, python.env))
        compiler.prepare()
        todo = sorted(lacking, key=lambda recipe: (not recipe.debs, -recipe.weight))
        running: dict[Future[Blob], Recipe] = {}
        made: dict[str, Blob] = {}
        while todo or running:
            self._look_for_losses(arriving)
            ready = [recipe for recipe in todo if _arrived(recipe, arriving)]
            self._look_for_conflicts(ready, lacking, arriving)
            for recipe in ready[: self._threads - len(running)]:
                todo.remove(recipe)
                running[self._pool.submit(self._one, recipe, python, compiler)] = recipe
            under_way: list[Future[Any]] = [*running]
            under_way += [future for future in arriving.values() if not future.done()]
            done = wait(under_way, return_when=FIRST_COMPLETED).done
            for future in [future for future in running if future in done]:
                recipe = running.pop(future)
                made[recipe.key] = future.result()
                if self._compare and self._compare.wants(recipe.distributions):  # of an sdist
                    self._compare.see_layer(self._settings.store, recipe.key, made[recipe.key])
        return made

    def _interpreter(self, arriving: Arriving) -> Interpreter:
        wanted = [
            package.artifact
            for package in interpreter.missing(self._base_debs, self._settings.cache)
        ]
        pending = [arriving[artifact] for artifact in wanted if artifact in arriving]
        wait(pending)
        self._look_for_losses(arriving)
        return interpreter.extracted(self._base_debs, self._settings.cache)

    def _look_for_conflicts(
        self, ready: Sequence[Recipe], lacking: Sequence[Recipe], arriving: Arriving
    ) -> None:
        """Compare what has arrived. After a conflict the other downloads go on, so that all are
        found; no layer is begun any more."""
        compare = self._compare
        if compare is None:
            return
        compare.see_cached(
            (item for one in ready for item in one.distributions), self._settings.cache
        )
        if compare.unsettled:
            self._meter.log("  two distributions bring one file; the other downloads go on")
            wait(arriving.values())
            self._look_for_losses(arriving)
            every = (item for one in lacking for item in one.distributions)
            compare.see_cached(every, self._settings.cache)
            compare.stop()

    def _look_for_losses(self, arriving: Arriving) -> None:
        for what, future in arriving.items():
            if future.done() and (error := future.exception()):
                self._meter.log(f"  {what.filename}: {error}; the other downloads go on")
                raise needed_files.lost(arriving, self._debs, self._settings.cache) or error

    def _one(self, recipe: Recipe, python: Interpreter, compiler: Compiler) -> Blob:
        store = self._settings.store
        with store.layer_keys.making(recipe.key):
            if blob := store.layer_keys.known(recipe.key):  # another build has just made it
                self._meter.advance(recipe.weight)
                return blob
            with _blamed(recipe):
                blob, seconds = self._write(recipe, python, compiler)
            store.layer_keys.remember(recipe.key, blob)
        self._meter.log(f"  made {recipe.title}: {size(blob.size)} in {seconds:.1f} s")
        return blob

    def _write(self, recipe: Recipe, python: Interpreter, compiler: Compiler) -> tuple[Blob, float]:
        """The layer's blob, in the store, and the seconds that it took."""
        from images.build.conflicts import layer_records  # a build that makes nothing does without

        shown, before_disk = 0, int(recipe.weight * _BEFORE_DISK)

        def advance(content: int) -> None:
            nonlocal shown
            if self._stop.is_set():
                raise _CancelledError
            step = min(int(content / _UNPACK_RATIO), before_disk - shown)
            shown += step
            self._meter.advance(step)

        kept = layer_records.Kept()
        with ExitStack() as stack:
            workdir = stack.enter_context(self._settings.store.workdir())
            context = LayerContext(self._settings.cache, workdir, python, compiler)
            out, commit = stack.enter_context(self._settings.store.blobs.new_file())
            with self._slots:
                begin = time.monotonic()
                with self._meter.busy(f"making {recipe.title}"):
                    entries = kept.passing(recipe.entries(context, stack))
                    blob = writer.write(
                        entries, out, self._settings.compression, advance, recipe.effort
                    )
            self._settings.store.layer_keys.keep_records(recipe.key, kept.dump())
            # Waits for the disk, while another layer has the processor.
            with self._meter.busy(f"writing {recipe.title} to the disk"):
                commit(blob.digest)
        self._meter.advance(recipe.weight - shown)
        return blob, time.monotonic() - begin


@contextmanager
def _blamed(recipe: Recipe) -> Iterator[None]:
    """Say which layer it is that cannot be made of its locked files."""
    try:
        yield
    except IntegrityError as error:
        if error.remedy:
            raise
        raise IntegrityError(
            f"layer {recipe.title}: {error.message}", remedy=_OTHER_FILES
        ) from error


def _arrived(recipe: Recipe, arriving: Arriving) -> bool:
    return all(arriving[need].done() for need in recipe.needs if need in arriving)
