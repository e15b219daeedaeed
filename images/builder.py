"""Makes the layers that a store does not hold yet, and the image of them.

Downloads run beside the making of layers: a layer is begun as soon as its files are there. Layers
are made by threads; the time goes into inflating, hashing and compressing, which let go of the
interpreter's lock, and into the processes of mmdebstrap and the byte compilers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images import deb, fetch, interpreter, layer
from images.artifact import Artifact
from images.bytecode import Compiler
from images.deb import Deb
from images.errors import BuildError, FetchError
from images.image import MAX_LAYERS, Layer
from images.interpreter import Interpreter
from images.layer import Blob, Compression
from images.lock import Distribution
from images.progress import Meter, Progress, size
from images.stack import Recipe, Workshop
from images.store import Store

Arriving = dict[Artifact, Future[Path]]
"""Downloads under way, by what they bring."""

_CONNECTIONS = 6
_UNPACK_RATIO = 2.2  # content bytes for each byte of a wheel, over torch280-sglang052


@dataclass(frozen=True, slots=True)
class Settings:
    """How to build.

    Attributes:
        store: where layers are kept.
        cache: the download cache.
        compression: of the layers.
        jobs: layers at a time.
        mirror: what a person set as the Debian mirror, if anything.
    """

    store: Store
    cache: Path
    compression: Compression
    jobs: int
    mirror: str | None


@dataclass(frozen=True, slots=True)
class Made:
    """A layer of the result.

    Attributes:
        layer: what goes into the image.
        reused: whether the store had it.
    """

    layer: Layer
    reused: bool


def make(
    recipes: Sequence[Recipe], base_debs: Sequence[Deb], settings: Settings, progress: Progress
) -> list[Made]:
    """The layers of the recipes, in their order; those that the store lacks are made.

    Args:
        recipes: lowest layer first.
        base_debs: the locked base, for the image's interpreter.
        settings: how to build.
        progress: told of the stages.

    Raises:
        BuildError: of the kind that fits; layers that were finished are kept.
    """
    if len(recipes) > MAX_LAYERS:
        raise BuildError(f"{len(recipes)} layers are more than an image may have ({MAX_LAYERS})")
    known = {recipe.key: settings.store.known(recipe.key) for recipe in recipes}
    lacking = [recipe for recipe in recipes if known[recipe.key] is None]
    made = _make_all(lacking, base_debs, settings, progress) if lacking else {}
    return [
        Made(Layer(recipe.title, known[recipe.key] or made[recipe.key]), recipe.key not in made)
        for recipe in recipes
    ]


def _make_all(
    lacking: Sequence[Recipe], base_debs: Sequence[Deb], settings: Settings, progress: Progress
) -> dict[str, Blob]:
    with ExitStack() as stack:
        arriving = _start_downloads(lacking, base_debs, settings, progress, stack)
        total = sum(recipe.weight for recipe in lacking)
        meter = stack.enter_context(progress.stage("layers", total))
        maker = stack.enter_context(_Maker(base_debs, settings, meter))
        return maker.run(lacking, arriving)


def _start_downloads(
    lacking: Sequence[Recipe],
    base_debs: Sequence[Deb],
    settings: Settings,
    progress: Progress,
    stack: ExitStack,
) -> Arriving:
    """Begin to fetch what the cache lacks; heavy files first, as their layers take longest."""
    debs = {deb.artifact: deb for recipe in lacking for deb in recipe.debs}
    debs |= {deb.artifact: deb for deb in interpreter.missing(base_debs, settings.cache)}
    files = {item.artifact: item for recipe in lacking for item in recipe.distributions}
    absent = fetch.missing([*debs, *files], settings.cache)
    if not absent:
        return {}
    with progress.timed("index"):
        urls = _locations(
            [files[artifact] for artifact in absent if artifact in files],
            [debs[artifact] for artifact in absent if artifact in debs],
            settings,
        )
    meter = stack.enter_context(progress.stage("fetch", sum(file.size for file in absent)))
    downloads = stack.enter_context(
        fetch.Downloads(settings.cache, jobs=_CONNECTIONS, advance=meter.advance)
    )
    absent.sort(key=lambda artifact: (artifact not in debs, -artifact.size))
    arriving = {artifact: downloads.start(artifact, urls[artifact]) for artifact in absent}
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


def _locations(
    distributions: Sequence[Distribution], debs: Sequence[Deb], settings: Settings
) -> dict[Artifact, str]:
    urls: dict[Artifact, str] = {}
    if distributions:
        from images import index_login, uv

        found = uv.locate({item.pin: item.artifact for item in distributions})
        urls |= index_login.with_logins(found)
    if gone := [item for item in distributions if item.artifact not in urls]:
        lines = "".join(f"\n  {item.pin}: {item.artifact.filename}" for item in gone)
        raise FetchError(
            f"the index has no file with the locked hash for:{lines}",
            remedy="lock again (python build.py lock), use an index that still has them, or bring "
            f"back the download cache of an earlier build: {settings.cache}",
        )
    if debs:
        from images import mirror

        where = mirror.find(settings.mirror)
        urls |= {package.artifact: deb.url(package, where) for package in debs}
    return urls


class _CancelledError(Exception):
    """Another layer failed, or the person pressed Ctrl-C."""


class _Maker:
    """Makes layers, a few at a time, the heaviest of those whose files are there first."""

    def __init__(self, base_debs: Sequence[Deb], settings: Settings, meter: Meter) -> None:
        self._base_debs = base_debs
        self._settings = settings
        self._meter = meter
        self._debs: set[Deb] = set()
        self._stop = threading.Event()
        self._stack = ExitStack()
        self._pool = ThreadPoolExecutor(settings.jobs, thread_name_prefix="layer")

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
        self._debs = {*self._base_debs, *(item for recipe in lacking for item in recipe.debs)}
        python = self._interpreter(arriving)
        compiler = self._stack.enter_context(Compiler(python.command, python.env))
        todo = sorted(lacking, key=lambda recipe: (not recipe.debs, -recipe.weight))
        running: dict[Future[Blob], str] = {}
        made: dict[str, Blob] = {}
        while todo or running:
            self._look_for_losses(arriving)
            ready = [recipe for recipe in todo if _arrived(recipe, arriving)]
            for recipe in ready[: self._settings.jobs - len(running)]:
                todo.remove(recipe)
                running[self._pool.submit(self._one, recipe, python, compiler)] = recipe.key
            under_way: list[Future[Any]] = [*running]
            under_way += [future for future in arriving.values() if not future.done()]
            done = wait(under_way, return_when=FIRST_COMPLETED).done
            for future in [future for future in running if future in done]:
                made[running.pop(future)] = future.result()
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

    def _look_for_losses(self, arriving: Arriving) -> None:
        for what, future in arriving.items():
            if future.done() and (error := future.exception()):
                self._meter.say(f"  {what.filename}: {error}; the other downloads go on")
                raise _not_arrived(arriving, self._debs, self._settings.cache)

    def _one(self, recipe: Recipe, python: Interpreter, compiler: Compiler) -> Blob:
        store = self._settings.store
        with store.making(recipe.key):
            if blob := store.known(recipe.key):  # another build has just made it
                self._meter.advance(recipe.weight)
                return blob
            begin = time.monotonic()
            blob = self._write(recipe, python, compiler)
            store.remember(recipe.key, blob)
        seconds = time.monotonic() - begin
        self._meter.say(f"  made {recipe.title}: {size(blob.size)} in {seconds:.1f} s")
        return blob

    def _write(self, recipe: Recipe, python: Interpreter, compiler: Compiler) -> Blob:
        shown = 0

        def advance(content: int) -> None:
            nonlocal shown
            if self._stop.is_set():
                raise _CancelledError
            step = min(int(content / _UNPACK_RATIO), recipe.weight - shown)
            shown += step
            self._meter.advance(step)

        with ExitStack() as stack:
            workdir = stack.enter_context(self._settings.store.workdir())
            shop = Workshop(self._settings.cache, workdir, python, compiler)
            out, commit = stack.enter_context(self._settings.store.new_file())
            entries = recipe.entries(shop, stack)
            blob = layer.write(entries, out, self._settings.compression, advance)
            commit(blob.digest)
        self._meter.advance(recipe.weight - shown)
        return blob


def _arrived(recipe: Recipe, arriving: Arriving) -> bool:
    return all(arriving[need].done() for need in recipe.needs if need in arriving)


def _not_arrived(arriving: Arriving, debs: Iterable[Deb], cache: Path) -> BaseException:
    """One error of all failed downloads, after the others have ended: what arrives is kept."""
    wait(arriving.values())
    errors = {what: error for what, future in arriving.items() if (error := future.exception())}
    for error in errors.values():
        if not isinstance(error, FetchError):  # a full disk, a wrong hash: worse than a lost file
            return error
    lost = {what: error for what, error in errors.items() if isinstance(error, FetchError)}
    if packages := [(item, lost[item.artifact]) for item in debs if item.artifact in lost]:
        return deb.unavailable(packages, cache, "python build.py lock --base")
    if len(lost) == 1:
        return next(iter(lost.values()))
    lines = "".join(
        f"\n  {message}" for message in sorted(error.message for error in lost.values())
    )
    return FetchError(
        f"{len(lost)} files did not arrive:{lines}", remedy=next(iter(lost.values())).remedy
    )
