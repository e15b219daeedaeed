"""Makes the layers that no store and no cache has.

Downloads run while layers are made: a layer is begun as soon as its files are there. Layers are
made by threads; the time goes into inflating, hashing and compressing, which release the
interpreter's lock, and into the processes of mmdebstrap and the byte compilers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images.build import preflight
from images.build.conflicts import layer_records
from images.build.recipe import LayerContext, Recipe, files_of
from images.content.python import interpreter
from images.content.python.bytecode import Compiler
from images.content.python.interpreter import Interpreter
from images.errors import IntegrityError
from images.inputs.build_options import BuildOptions
from images.inputs.fetch import needed_files
from images.inputs.fetch.downloads import CONNECTIONS, Downloads
from images.inputs.fetch.needed_files import Arriving
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb
from images.inputs.resolve import file_urls
from images.oci.descriptor import Blob
from images.oci.layer import writer
from images.util.programs import EndedError, Programs
from images.util.progress import Meter, Progress, size

if TYPE_CHECKING:
    from images.build.conflicts.comparison import Comparison

_FLUSHING = 2  # layers whose bytes are on their way to the disk, beside those that are being made
_UNPACK_RATIO = 2.2  # content bytes for each byte of a wheel, over torch280-sglang052
_OTHER_FILES = (
    "the locked files are the same wherever they come from: pin another version in matrix.yaml, "
    "then python build.py lock --target ID"
)
_BEFORE_DISK = 0.95  # of a layer's weight: what is done before the disk has written it


def make(
    lacking: Sequence[Recipe],
    base_debs: Sequence[Deb],
    options: BuildOptions,
    progress: Progress,
    compare: Comparison | None,
) -> dict[str, Blob]:
    """Make layers, and fetch what they are made of; returns their blobs by key.

    Args:
        lacking: the layers.
        base_debs: the lock of the Debian base, for the image's interpreter.
        options: of the build.
        progress: reports the stages.
        compare: compares the files of the distributions, each before its layer is begun.

    Raises:
        BuildError: a layer's own, or one that lists all files that did not arrive; layers that were
            finished are kept.
    """
    with ExitStack() as stack:
        arriving = _start_downloads(lacking, base_debs, options, progress, stack)
        total = sum(recipe.work for recipe in lacking)
        meter = stack.enter_context(progress.stage("layers", total))
        maker = stack.enter_context(_LayerMaker(base_debs, options, meter, compare))
        return maker.run(lacking, arriving)


def _start_downloads(
    lacking: Sequence[Recipe],
    base_debs: Sequence[Deb],
    options: BuildOptions,
    progress: Progress,
    stack: ExitStack,
) -> Arriving:
    """Begin to fetch what the cache lacks; heavy files first, as their layers take longest."""
    cache = options.cache
    absent = files_of(lacking, interpreter.missing(base_debs, cache)).absent(cache)
    if absent.artifacts and options.offline:
        raise needed_files.not_here(absent, cache, options.offline)
    preflight.check(lacking, absent.size, cache, options.store.path)
    if not absent.artifacts:
        return {}
    with progress.timed("index"):
        urls = file_urls.locate(absent, options.mirror, cache)
    meter = stack.enter_context(progress.stage("fetch", absent.size))
    downloads = stack.enter_context(Downloads(cache, jobs=CONNECTIONS, advance=meter.advance))
    arriving = {file: downloads.start(file, urls[file]) for file in absent.artifacts}
    _when_all_done(arriving, meter.end)
    return arriving


def _when_all_done(arriving: Arriving, call: Callable[[], None]) -> None:
    """Call a function after the last download: making layers goes on, and is another stage."""
    left = threading.Semaphore(len(arriving) - 1)

    def count(_: Future[Path]) -> None:
        if not left.acquire(blocking=False):
            call()

    for future in arriving.values():
        future.add_done_callback(count)


class _LayerMaker:
    """Makes layers, a few at a time; of those whose files are there the heaviest first."""

    def __init__(
        self,
        base_debs: Sequence[Deb],
        options: BuildOptions,
        meter: Meter,
        compare: Comparison | None,
    ) -> None:
        self._base_debs = base_debs
        self._compare = compare
        self._options = options
        self._meter = meter
        self._debs: dict[Artifact, Deb] = {}
        self._programs = Programs()
        self._stack = ExitStack()
        self._slots = threading.Semaphore(options.jobs)
        self._threads = options.jobs + _FLUSHING
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="layer")

    def __enter__(self) -> _LayerMaker:
        return self

    def __exit__(self, *exc: object) -> None:
        # Another layer failed, or the user pressed Ctrl-C: nothing that was begun is waited for.
        try:
            self._programs.end()
        finally:  # also when Ctrl-C comes now
            self._pool.shutdown(cancel_futures=True)
            self._stack.close()

    def run(self, lacking: Sequence[Recipe], arriving: Arriving) -> dict[str, Blob]:
        """Make all layers; returns their blobs by key."""
        self._debs = dict(files_of(lacking, self._base_debs).debs)
        python = self._interpreter(arriving)
        compiler = self._stack.enter_context(Compiler(python.command, python.env))
        compiler.prepare()
        todo = sorted(lacking, key=lambda recipe: (not recipe.debs, -recipe.work))
        running: dict[Future[Blob], Recipe] = {}
        made: dict[str, Blob] = {}
        while todo or running:
            self._check_for_losses(arriving)
            ready = [recipe for recipe in todo if _arrived(recipe, arriving)]
            self._check_for_conflicts(ready, lacking, arriving)
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
                    self._compare.see_layer(self._options.store, recipe.key, made[recipe.key])
        return made

    def _interpreter(self, arriving: Arriving) -> Interpreter:
        wanted = [
            package.artifact
            for package in interpreter.missing(self._base_debs, self._options.cache)
        ]
        pending = [arriving[artifact] for artifact in wanted if artifact in arriving]
        wait(pending)
        self._check_for_losses(arriving)
        return interpreter.extracted(self._base_debs, self._options.cache)

    def _check_for_conflicts(
        self, ready: Sequence[Recipe], lacking: Sequence[Recipe], arriving: Arriving
    ) -> None:
        """Compare what has arrived.

        After a conflict the other downloads go on, so that all conflicts are found; no further
        layer is begun.
        """
        compare = self._compare
        if compare is None:
            return
        compare.see_cached(
            (item for one in ready for item in one.distributions), self._options.cache
        )
        if compare.unsettled:
            self._meter.log("  two distributions install one file; the other downloads go on")
            wait(arriving.values())
            self._check_for_losses(arriving)
            every = (item for one in lacking for item in one.distributions)
            compare.see_cached(every, self._options.cache)
            compare.stop()

    def _check_for_losses(self, arriving: Arriving) -> None:
        for what, future in arriving.items():
            if future.done() and (error := future.exception()):
                self._meter.log(f"  {what.filename}: {error}; the other downloads go on")
                raise needed_files.lost(arriving, self._debs, self._options.cache) or error

    def _one(self, recipe: Recipe, python: Interpreter, compiler: Compiler) -> Blob:
        store = self._options.store
        with store.layer_keys.making(recipe.key):
            if blob := store.layer_keys.known(recipe.key):  # another build has just made it
                self._meter.advance(recipe.work)
                return blob
            with _blamed(recipe):
                blob, seconds = self._write(recipe, python, compiler)
            store.layer_keys.remember(recipe.key, blob)
        self._meter.log(f"  made {recipe.title}: {size(blob.size)} in {seconds:.1f} s")
        return blob

    def _write(self, recipe: Recipe, python: Interpreter, compiler: Compiler) -> tuple[Blob, float]:
        """Write a layer into the store; returns its blob and the seconds that it took."""
        shown, before_disk = 0, int(recipe.work * _BEFORE_DISK)

        def advance(content: int) -> None:
            nonlocal shown
            if self._programs.ended:
                raise EndedError
            step = min(int(content / _UNPACK_RATIO), before_disk - shown)
            shown += step
            self._meter.advance(step)

        records = layer_records.RecordCollector()
        with ExitStack() as stack:
            workdir = stack.enter_context(self._options.store.workdir())
            context = LayerContext(self._options.cache, workdir, python, compiler, self._meter.log)
            out, commit = stack.enter_context(self._options.store.blobs.new_file())
            with self._slots, self._programs.own():
                begin = time.monotonic()
                with self._meter.busy(f"making {recipe.title}"):
                    entries = records.passing(recipe.entries(context, stack))
                    blob = writer.write(
                        entries, out, self._options.compression, advance, recipe.effort
                    )
            self._options.store.layer_keys.keep_records(recipe.key, records.dump())
            # Waits for the disk, while another layer has the processor.
            with self._meter.busy(f"writing {recipe.title} to the disk"):
                commit(blob.digest)
        self._meter.advance(recipe.work - shown)
        return blob, time.monotonic() - begin


@contextmanager
def _blamed(recipe: Recipe) -> Iterator[None]:
    """Name the layer that cannot be made of its locked files."""
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
