"""The files of a target's distributions, compared as they become known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from images.build import grouping
from images.build.conflicts import detection, image_files, left_out, messages
from images.build.conflicts.detection import Conflict, InstalledFiles
from images.errors import IntegrityError
from images.inputs.fetch import download_cache
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.conflict_rules import THE_IMAGE

if TYPE_CHECKING:
    from images.inputs.matrix.records import Target
    from images.oci.descriptor import Blob
    from images.oci.store.store import Store


class Comparison:
    """The files that the distributions of a target install, compared as they become known.

    Args:
        target: the target.
        lock: its lock.
        note: name and content of the store's note that all was compared; None to make none.
    """

    def __init__(self, target: Target, lock: Lock, note: tuple[str, bytes] | None = None) -> None:
        self._target = target
        self._lock = lock
        self._note = note
        self._absent = {item.name: item for item in lock.distributions}
        groups = [
            *grouping.groups(lock.of_engine()),
            *grouping.added_groups(lock.of_flavour(), target.flavour, lock.compiled),
        ]
        changing = left_out.of_groups(groups, lock.conflicts).values()
        self._changing = {loss.rule for losses in changing for loss in losses}
        self._incomplete: set[str] = set()
        order = [item.name for group in groups for item in group.distributions]
        self._tree = detection.Tree((THE_IMAGE, *order), image_files.hidden(target.toolkit))
        own = InstalledFiles(THE_IMAGE, image_files.of(target.toolkit))
        self._found: list[Conflict] = self._tree.add(own)

    def note(self, store: Store) -> None:
        """Note that all was compared, without a conflict."""
        if self._note and not self._absent:
            store.files.write(*self._note)

    def wants(self, items: Iterable[Distribution]) -> bool:
        """Return whether one of some distributions was not compared yet."""
        return any(item == self._absent.get(item.name) for item in items)

    def lacks_files(self, items: Iterable[Distribution]) -> bool:
        """Return whether a rule left files out of the layer of some distributions."""
        names = {item.name for item in items}
        return any(rule.over in names for rule in self._changing)

    @property
    def absent(self) -> list[str]:
        """Names of the distributions that were not compared."""
        return sorted(self._absent)

    @property
    def unsettled(self) -> bool:
        """Whether there is a conflict whose winner the matrix does not name."""
        return bool(detection.unsettled(self._found, self._lock.conflicts))

    def see_cached(self, items: Iterable[Distribution], cache: Path) -> None:
        """Take the wheels among some files that are in the download cache.

        Raises:
            IntegrityError: one is not a wheel, or not the locked one.
        """
        from images.build.conflicts import wheel_files

        for item in items:
            if item != self._absent.get(item.name) or not item.is_wheel:
                continue
            if download_cache.is_cached(item.artifact, cache):
                path = download_cache.cached(item.artifact, cache)
                misrecorded = item.name in self._lock.misrecorded
                try:
                    self._see(wheel_files.of(path, item.name, misrecorded=misrecorded))
                except IntegrityError:
                    # If the file is damaged here, this error names the fix.
                    download_cache.checked(item.artifact, cache)
                    raise

    def see_layer(self, store: Store, key: str, blob: Blob) -> None:
        """Take the distributions in a layer of the store.

        Raises:
            IntegrityError: the layer is damaged.
        """
        from images.build.conflicts import layer_records

        for installed in layer_records.of_layer(store, key, blob):
            if installed.owner in self._absent:
                self._see(installed)
                self._incomplete.add(installed.owner)

    def _see(self, installed: InstalledFiles) -> None:
        self._found += self._tree.add(installed)
        del self._absent[installed.owner]

    def stop(self) -> None:
        """Raise the error of what was found, if it is one.

        Raises:
            ConflictError: two distributions install files that cannot both be in the image.
            MatrixError: an entry of `conflicts:` settles nothing.
        """
        rules = self._lock.conflicts
        if found := detection.unsettled(self._found, rules):
            raise messages.of_conflicts(self._target.id, found, len(self._absent))
        locked = {item.name for item in self._lock.distributions}
        named = {name for rule in rules for name in rule[1:3]}
        known = (locked - self._absent.keys()) | (named - locked)
        # What a rule left out is not in the layer that it changed: there it has nothing to settle.
        done = {rule for rule in self._changing if rule.over in self._incomplete}
        judged = [rule for rule in rules if rule not in done]
        if idle := detection.unused(self._found, judged, known):
            raise messages.of_unused_rules(self._target.id, idle)
