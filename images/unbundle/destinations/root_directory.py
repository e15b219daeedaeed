"""The image as a directory, made over as many runs as it takes for the parts to arrive.

Beside DIR: `DIR.json` says what DIR is, and `complete` in it whether it is whole; `DIR.unpack`
holds what was done so far and goes when all is; `DIR.enter` runs a command in it (enter.py).

These are believed only where nobody else has put them there, and `complete` only as far as it can
be seen: see `Rootfs.faults`.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any, Sequence

from images.errors import UsageError
from images.unbundle.destinations import disk, enter, expected
from images.unbundle.destinations.base_layers import Changes
from images.unbundle.destinations.expected import Expected
from images.unbundle.destinations.layer_tree import Tree
from images.unbundle.destinations.member_files import Record
from images.unbundle.document import Bundle, Layer
from images.unbundle.sources.layer_source import Pieces, Source, Sources
from images.util import limits, untrusted_files


class Rootfs:
    """A destination: files in a directory. As root, owners are kept; else all are the user's.

    Args:
        path: the directory; new, empty, or this image's from an earlier run.
        bundle: the bundle.
        setuid: whether set-uid and set-gid bits of files are kept: see `Manner`.

    Raises:
        UsageError: it holds something else, is somebody else's, or another run is at work on it.
    """

    def __init__(self, path: Path, bundle: Bundle, *, setuid: bool = False) -> None:
        self.path = path.absolute()
        self._bundle = bundle
        self._setuid = setuid
        self._record_path = self._beside(".json")
        self._work = self._beside(".unpack")
        self.complete = self._opened()
        if self.complete:
            return
        self._work.mkdir(parents=True, exist_ok=True)
        self._held = disk.hold(self._work / "lock", f"{self.path}: another run is at work on it")
        self._write_record(complete=False)
        self.path.mkdir(exist_ok=True)
        resumed = any(self.path.iterdir())
        self._tree = Tree(self.path, resumed=resumed, setuid=setuid)
        self._changes = Changes(self.path, setuid=setuid)
        self._done: dict[int, str] = {}
        for layer in bundle.layers:
            self._restore(layer)

    def has(self, layer: Layer) -> bool:
        """Whether all files of a layer are in place."""
        return self.complete or layer.number in self._done

    def ready(self, layer: Layer) -> bool:
        """Whether a layer may come now: those of an own base lowest first, before all others."""
        below = range(min(layer.number, self._bundle.base))
        return self.complete or all(number in self._done for number in below)

    def take(self, layer: Layer, source: Source) -> None:
        """Write the files of a layer, and then that it was done."""
        pieces = source.tar()
        try:
            record = self._apply(layer, pieces)
        finally:
            disk.close(pieces)
        value = {"diff_id": layer.diff_id, "paths": record}
        disk.replace(self._note(layer), json.dumps(value).encode())
        self._done[layer.number] = layer.diff_id

    def _apply(self, layer: Layer, pieces: Pieces) -> Record:
        if layer.number >= self._bundle.base:
            return self._tree.apply(layer.number, pieces)
        record = self._changes.apply(pieces)
        if layer.number == self._bundle.base - 1:
            record = self._changes.whole()
            self._tree.restore(layer.number, record)
        return record

    def finish(self) -> None:
        """All layers are there: directories get their modes, and DIR its record."""
        if self.complete:
            return
        self._tree.finish()
        script = enter.of_bundle(self._bundle)
        disk.replace(self._beside(".enter"), script.encode(), mode=0o755)
        self._write_record(complete=True)
        self.complete = True
        shutil.rmtree(self._work)

    def faults(self, sources: Sources, *, thorough: bool) -> list[str]:
        """What is not as the layers say; each of them is read again.

        Args:
            sources: where the layers are.
            thorough: whether contents, modes, owners and what was added count as well, and not
                only what is missing.

        Raises:
            IncompleteError: a layer cannot be had any more.
            IntegrityError: it is damaged.
        """
        wanted = Expected(hashed=thorough, setuid=self._setuid)
        found = [(layer, sources.find(layer)) for layer in self._bundle.layers]
        for _, source in found:
            pieces = source.tar()
            try:
                wanted.apply(pieces)
            finally:
                disk.close(pieces)
        if thorough:
            return list(expected.differences(self.path, wanted))
        return [f"missing: {path}" for path in expected.missing(self.path, wanted)]

    def flush(self) -> None:
        """Wait until what was written is on the disk: parts that it came from may then go."""
        disk.flush(self.path)

    def how_to(self) -> Sequence[str]:
        """Commands that use it, for people."""
        return enter.commands(self.path, self._bundle)

    def _opened(self) -> bool:
        """Whether it is whole already, as far as its record says."""
        record: dict[str, Any] = {}
        for place in (self.path, self._record_path, self._work):
            self._refuse_link(place)
        try:
            record = json.loads(untrusted_files.whole(self._record_path, limits.LIST))
            found = record["manifest_digest"]
        except FileNotFoundError:
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise UsageError(
                    f"{self.path}: not an empty directory", remedy="name another one"
                ) from None
            return False
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(
                f"{self._record_path}: not the record of an unpacked image: {error!r}",
                remedy=f"name another directory, or remove {self.path} and {self._record_path}",
            ) from error
        if found != self._bundle.manifest_digest:
            raise UsageError(
                f"{self.path}: holds or awaits another image: {record.get('ref')} {found}",
                remedy=f"name another directory, or remove {self.path} and {self._record_path}",
            )
        for place in (self.path, self._record_path, self._work):
            self._refuse_strangers(place)
        if record.get("complete") is True:
            self._setuid = record.get("setuid", True) is True  # earlier unpackers kept the bits
            shutil.rmtree(self._work, ignore_errors=True)
            return True
        return False

    def _refuse_link(self, place: Path) -> None:
        if place.is_symlink():
            raise UsageError(
                f"{place}: a symbolic link",
                remedy="name the directory that it leads to, or another",
            )

    def _refuse_strangers(self, place: Path) -> None:
        """Who may write beside DIR could say that DIR is whole, or have other files replaced."""
        try:
            found = place.lstat()
        except FileNotFoundError:
            return
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:
            raise UsageError(
                f"{place}: belongs to user {found.st_uid} or can be written by all: not believed",
                remedy=f"name another directory, or remove {self.path}, {self._record_path} and "
                f"{self._work}",
            )

    def _restore(self, layer: Layer) -> None:
        try:
            value = json.loads(untrusted_files.whole(self._note(layer), limits.NOTE))
            paths: Record = {name: (kind, mode) for name, (kind, mode) in value["paths"].items()}
            diff_id = value["diff_id"]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return  # then the layer is written again
        if layer.number < self._bundle.base - 1:
            self._changes.restore(paths)
        else:
            self._tree.restore(layer.number, paths)
        self._done[layer.number] = diff_id

    def _note(self, layer: Layer) -> Path:
        return self._work / f"layer-{layer.number:03d}.json"

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _write_record(self, *, complete: bool) -> None:
        bundle = self._bundle
        value = {
            "complete": complete,
            "config_digest": bundle.config_digest,
            "env": bundle.env,
            "labels": bundle.settings.get("Labels") or {},
            "manifest_digest": bundle.manifest_digest,
            "ref": bundle.ref,
            "setuid": self._setuid,
        }
        content = json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"
        disk.replace(self._record_path, content)
