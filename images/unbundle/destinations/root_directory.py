"""The image as a directory, unpacked in as many runs as its parts take to arrive.

Beside DIR: `DIR.json` is its record, with `complete`; `DIR.unpack` has the state of unfinished work
and is removed at the end; `DIR.enter` runs a command in it (enter.py).

Record and state are trusted only if no other user can have written them, and `complete` only as far
as it can be checked: see `Rootfs.faults`.
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
from images.unbundle.sources.layer_source import LayerSource, LayerSources, Pieces
from images.util import limits, untrusted_files


class Rootfs:
    """A destination: files in a directory. As root, owners are kept; otherwise all are the user's.

    Args:
        path: the directory; new, empty, or with this image from an earlier run.
        bundle: the bundle.
        setuid: whether set-uid and set-gid bits of files are kept: see `Manner`.

    Raises:
        UsageError: it has other content, belongs to another user, or another run writes there.
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
        self._locked = disk.hold(self._work / "lock", f"{self.path}: another run is writing there")
        self._write_record(complete=False)
        self.path.mkdir(exist_ok=True)
        resumed = any(self.path.iterdir())
        self._tree = Tree(self.path, resumed=resumed, setuid=setuid)
        self._changes = Changes(self.path, setuid=setuid)
        self._done: dict[int, str] = {}
        for layer in bundle.layers:
            self._restore(layer)

    def has(self, layer: Layer) -> bool:
        """Return whether all files of a layer are there."""
        return self.complete or layer.number in self._done

    def ready(self, layer: Layer) -> bool:
        """Return whether a layer can be taken now: a custom base first, its lowest layer first."""
        below = range(min(layer.number, self._bundle.base))
        return self.complete or all(number in self._done for number in below)

    def take(self, layer: Layer, source: LayerSource) -> None:
        """Write the files of a layer, and record it."""
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
        """Set the modes of directories, and record that DIR is complete; all layers are there."""
        if self.complete:
            return
        self._tree.finish()
        script = enter.of_bundle(self._bundle)
        disk.replace(self._beside(".enter"), script.encode(), mode=0o755)
        self._write_record(complete=True)
        self.complete = True
        shutil.rmtree(self._work)

    def faults(self, sources: LayerSources, *, thorough: bool) -> list[str]:
        """Return the differences from the layers, each of which is read again.

        Args:
            sources: where the layers are.
            thorough: whether contents, modes, owners and added files are compared as well;
                otherwise only what is missing.

        Raises:
            IncompleteError: a layer is not available any more.
            IntegrityError: a layer is damaged.
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
        """Sync what was written to disk; then parts may be removed."""
        disk.flush(self.path)

    def how_to(self) -> Sequence[str]:
        """Return commands that use it, for people."""
        return enter.commands(self.path, self._bundle)

    def _opened(self) -> bool:
        """Return whether it is complete already, according to its record."""
        record: dict[str, Any] = {}
        for path in (self.path, self._record_path, self._work):
            self._refuse_link(path)
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
                f"{self.path}: has another image, or a part of one: {record.get('ref')} {found}",
                remedy=f"name another directory, or remove {self.path} and {self._record_path}",
            )
        for path in (self.path, self._record_path, self._work):
            self._refuse_others(path)
        if record.get("complete") is True:
            self._setuid = record.get("setuid", True) is True  # earlier unpackers kept the bits
            shutil.rmtree(self._work, ignore_errors=True)
            return True
        return False

    def _refuse_link(self, path: Path) -> None:
        if path.is_symlink():
            raise UsageError(
                f"{path}: a symbolic link",
                remedy="name its target, or another directory",
            )

    def _refuse_others(self, path: Path) -> None:
        """Refuse a path that another user can write: record and state could be faked."""
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:
            raise UsageError(
                f"{path}: not trusted: belongs to user {found.st_uid} or is writable by everyone",
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
