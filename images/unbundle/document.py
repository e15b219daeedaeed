"""`bundle.json`, the document of a bundle: its only writer and reader.

Fields: see `Bundle`. The manifest and the config are in it byte for byte, so one manifest digest
covers everything in a bundle. `sum`, the SHA-256 of the document without it as canonical JSON,
detects a document that was damaged in transit.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Mapping

from images.errors import BuildError, IntegrityError

NAME = "bundle.json"
UNPACKER = "unpack.py"
LIBZSTD = "libzstd.so.1"
FORMAT = 1
BLOB, RECIPE, HELD = "blob", "recipe", "held"
_PART = re.compile(r"part-[0-9]{4,}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RESEND = "send bundle.json again; if that does not help, make the bundle again"


class IncompleteError(BuildError):
    """Something is missing (yet): parts, or files that the destination should have."""

    exit_code = 3


@dataclass(frozen=True)
class Part:
    """A file of the bundle: a range of the stream of all layers."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Layer:
    """A layer of the image, and how it travels.

    Attributes:
        number: its position; the lowest is 0.
        title: its title; empty for a layer of a custom base, which the project did not build.
        digest: `sha256:…` of the blob.
        diff_id: `sha256:…` of the tar.
        size: bytes of the blob.
        media_type: OCI media type of the blob.
        travels: `blob`: as it is; `recipe` (recipe.py): the destination rebuilds its tar with its
            own files; `held`: not at all, the destination has the blob or the tar.
        offset: position of its bytes in the stream of all parts.
        length: number of its bytes in the stream.
        path: for a held layer, its path in an inventory; may be empty.
    """

    number: int
    title: str
    digest: str
    diff_id: str
    size: int
    media_type: str
    travels: str
    offset: int
    length: int
    path: str = ""

    @property
    def name(self) -> str:
        """Its name for people."""
        return self.title or f"layer {self.number + 1}, of the base"


@dataclass(frozen=True)
class Bundle:
    """The content of `bundle.json`.

    Attributes:
        ref: the image's name.
        manifest: the OCI manifest.
        config: the OCI image config.
        layers: lowest first.
        part_size: bytes of every part but the last.
        parts: in the order of the stream.
        files: SHA-256 of the other files of the bundle, by name.
        libzstd_needs: what the libzstd in the bundle needs of a machine, for people; may be empty.
    """

    ref: str
    manifest: str
    config: str
    layers: tuple[Layer, ...]
    part_size: int
    parts: tuple[Part, ...]
    files: Mapping[str, str]
    libzstd_needs: str

    @property
    def base(self) -> int:
        """Number of layers, lowest first, that are of a custom base."""
        ours = (layer.number for layer in self.layers if layer.title)
        return min(ours, default=len(self.layers))

    @property
    def manifest_digest(self) -> str:
        """`sha256:…` of the manifest."""
        return digest(self.manifest.encode())

    @property
    def config_digest(self) -> str:
        """`sha256:…` of the config: the image id."""
        return digest(self.config.encode())

    @property
    def settings(self) -> dict[str, Any]:
        """The `config` object of the image config: Env, Labels, Cmd."""
        return dict(json.loads(self.config).get("config") or {})

    @property
    def env(self) -> dict[str, str]:
        """The image's environment."""
        lines = self.settings.get("Env") or []
        return {name: value for name, _, value in (line.partition("=") for line in lines)}


def digest(content: bytes) -> str:
    """Return the OCI digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encode(bundle: Bundle) -> bytes:
    """Return the bytes of `bundle.json`; the same for the same bundle."""
    value = {
        "bundle": FORMAT,
        "manifest_digest": bundle.manifest_digest,
        "config_digest": bundle.config_digest,
        **asdict(bundle),
    }
    return json.dumps({**value, "sum": _sum(value)}, indent=1, sort_keys=True).encode() + b"\n"


def decode(content: bytes) -> Bundle:
    """Return the bundle that a document describes.

    Raises:
        IntegrityError: the bytes are not a `bundle.json`, are of another format, are damaged, or
            contradict themselves.
    """
    try:
        value = json.loads(content)
        if value["bundle"] != FORMAT:
            raise IntegrityError(
                f"{NAME}: format {value['bundle']!r} instead of {FORMAT}",
                remedy=f"use the {UNPACKER} that came with it",
            )
        if value.pop("sum") != _sum(value):
            raise IntegrityError(f"{NAME}: damaged: its sum does not match", remedy=_RESEND)
        bundle = Bundle(
            value["ref"],
            value["manifest"],
            value["config"],
            tuple(Layer(**layer) for layer in value["layers"]),
            value["part_size"],
            tuple(Part(**part) for part in value["parts"]),
            value["files"],
            value["libzstd_needs"],
        )
        fault = _contradiction(bundle, value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{NAME}: not a bundle document: {error!r}", remedy=_RESEND) from error
    if fault:
        raise IntegrityError(f"{NAME}: contradicts itself: {fault}", remedy=_RESEND)
    return bundle


def _contradiction(bundle: Bundle, value: Mapping[str, Any]) -> str:
    """Return the first contradiction, or an empty text."""
    if fault := _malformed(bundle):
        return fault
    manifest, config = json.loads(bundle.manifest), json.loads(bundle.config)
    named = (value["manifest_digest"], value["config_digest"], manifest["config"]["digest"])
    if named != (bundle.manifest_digest, bundle.config_digest, bundle.config_digest):
        return "manifest, config and their digests"
    blobs = [(item["digest"], item["size"], item["mediaType"]) for item in manifest["layers"]]
    if blobs != [(layer.digest, layer.size, layer.media_type) for layer in bundle.layers]:
        return "its layers and those of the manifest"
    if config["rootfs"]["diff_ids"] != [layer.diff_id for layer in bundle.layers]:
        return "its layers and those of the config"
    at = 0
    for number, layer in enumerate(bundle.layers):
        if layer.number != number or layer.travels not in (BLOB, RECIPE, HELD):
            return f"layer {number}"
        if layer.offset != at or layer.length < 0:
            return "positions of layers in the parts"
        at += layer.length
    sizes = [part.size for part in bundle.parts]
    if bundle.part_size < 1 or sum(sizes) != at or not all(sizes):
        return "positions of layers in the parts"
    if any(size != bundle.part_size for size in sizes[:-1]) or max(sizes, default=0) > (
        bundle.part_size
    ):
        return "sizes of parts"
    if not _REF.fullmatch(bundle.ref):
        return "the image's name"
    # Names are paths on the destination.
    names = [part.name for part in bundle.parts]
    if len(set(names)) != len(names) or not all(_PART.fullmatch(name) for name in names):
        return "names of parts"
    return ""


def _malformed(bundle: Bundle) -> str:
    """Return the first value of a wrong type, or an empty text. Names become paths."""
    numbers = [bundle.part_size, *(part.size for part in bundle.parts)]
    numbers += [n for layer in bundle.layers for n in (layer.size, layer.offset, layer.length)]
    if not all(type(number) is int and number >= 0 for number in numbers):
        return "a number"
    digests = [name for layer in bundle.layers for name in (layer.digest, layer.diff_id)]
    digests += [f"sha256:{part.sha256}" for part in bundle.parts]
    if not all(DIGEST.fullmatch(name) for name in digests):
        return "a digest"
    if not all(
        _FILE.fullmatch(name) and isinstance(bundle.files[name], str) for name in bundle.files
    ):
        return "names of files"
    settings = bundle.settings
    texts = [bundle.libzstd_needs, *(layer.title for layer in bundle.layers)]
    texts += [layer.path for layer in bundle.layers] + [layer.media_type for layer in bundle.layers]
    texts += [*(settings.get("Env") or []), *(settings.get("Cmd") or [])]
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        return "a text"
    return ""


def _sum(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
