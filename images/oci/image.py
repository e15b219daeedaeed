"""An image as an immutable value: config, manifest and labels, made from layers.

Specification: OCI Image Format 1.1, https://github.com/opencontainers/image-spec (config.md,
manifest.md, annotations.md). Every sink (store, Docker) takes the same value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from images.oci.descriptor import (
    CONFIG_TYPE,
    MANIFEST_TYPE,
    TITLE,
    Blob,
    canonical_json,
    checked_digest,
    checked_text,
    descriptor_of,
    digest_of,
)
from images.util import untrusted_json

MAX_LAYERS = 100
"""Docker refuses more than 125; a derived image needs some for its own."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image: its title, and its blob."""

    title: str
    blob: Blob


@dataclass(frozen=True)
class Image:
    """A whole image.

    Attributes:
        ref: the name it has in a store's index, e.g. `torch280-sglang052`.
        layers: lowest first.
        env: environment defaults.
        labels: image labels; also put on the manifest as annotations, where a registry shows
            them without a pull.
        created: RFC 3339 time; a property of the inputs, not of the build.
        inherited: the history of a custom base, as its config has it. Its layers are the lowest,
            one for each entry that is not empty; they have no titles.
    """

    ref: str
    layers: tuple[Layer, ...]
    env: Mapping[str, str]
    labels: Mapping[str, str]
    created: str
    inherited: tuple[Mapping[str, Any], ...] = ()

    @property
    def own_layers(self) -> tuple[Layer, ...]:
        """The layers above those of a custom base."""
        below = sum(not entry.get("empty_layer") for entry in self.inherited)
        return self.layers[below:]

    @cached_property
    def config(self) -> bytes:
        """The OCI image config."""
        return canonical_json(
            {
                "architecture": "amd64",
                "config": {
                    "Cmd": ["/bin/bash"],
                    "Env": [f"{name}={value}" for name, value in self.env.items()],
                    "Labels": dict(self.labels),
                    "WorkingDir": "/",
                },
                "created": self.created,
                "history": [
                    *self.inherited,
                    *(
                        {"created": self.created, "created_by": layer.title}
                        for layer in self.own_layers
                    ),
                ],
                "os": "linux",
                "rootfs": {
                    "diff_ids": [layer.blob.diff_id for layer in self.layers],
                    "type": "layers",
                },
            }
        )

    @cached_property
    def manifest(self) -> bytes:
        """The OCI image manifest."""
        below = len(self.layers) - len(self.own_layers)
        return canonical_json(
            {
                "annotations": dict(self.labels),
                "config": descriptor_of(CONFIG_TYPE, self.config),
                "layers": [
                    {
                        **({"annotations": {TITLE: layer.title}} if number >= below else {}),
                        "digest": layer.blob.digest,
                        "mediaType": layer.blob.media_type,
                        "size": layer.blob.size,
                    }
                    for number, layer in enumerate(self.layers)
                ],
                "mediaType": MANIFEST_TYPE,
                "schemaVersion": 2,
            }
        )

    @cached_property
    def config_digest(self) -> str:
        """`sha256:…` of the config: Docker's image id."""
        return digest_of(self.config)

    @cached_property
    def manifest_digest(self) -> str:
        """`sha256:…` of the manifest: the name that a registry knows the image by."""
        return digest_of(self.manifest)

    @property
    def descriptor(self) -> dict[str, Any]:
        """The manifest's descriptor."""
        return descriptor_of(MANIFEST_TYPE, self.manifest)

    @property
    def size(self) -> int:
        """Compressed bytes of all layers."""
        return sum(layer.blob.size for layer in self.layers)


def parse(ref: str, manifest: bytes, config: bytes, unpacked: Sequence[int] = ()) -> Image:
    """Return the image that a manifest and a config of this builder describe.

    Args:
        ref: its name in the store's index.
        manifest: the manifest's bytes.
        config: the config's bytes.
        unpacked: bytes of each layer's tar if they are known, lowest first.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: the documents are not JSON of that form.
    """
    head, body = untrusted_json.loads(manifest), untrusted_json.loads(config)
    sizes = tuple(unpacked) or (0,) * len(head["layers"])
    layers = tuple(
        _layer(item, diff_id, size)
        for item, diff_id, size in zip(
            head["layers"], body["rootfs"]["diff_ids"], sizes, strict=True
        )
    )
    settings = body["config"]
    env = dict(checked_text(line).split("=", 1) for line in (settings.get("Env") or []))
    labels = {name: checked_text(value) for name, value in (settings.get("Labels") or {}).items()}
    own = sum(TITLE in (item.get("annotations") or {}) for item in head["layers"])
    history = body.get("history") or []
    inherited = tuple(_history_entry(item) for item in history[: len(history) - own])
    return Image(ref, layers, env, labels, checked_text(body["created"]), inherited)


def _layer(item: Any, diff_id: Any, unpacked: int) -> Layer:
    title = (item.get("annotations") or {}).get(TITLE, "")
    size = item["size"]
    if type(size) is not int or not 0 <= size < 1 << 63:
        raise ValueError(f"{size!r} is not the size of a layer")
    blob = Blob(
        checked_digest(item["digest"]),
        checked_digest(diff_id),
        size,
        unpacked,
        checked_text(item["mediaType"]),
    )
    return Layer(checked_text(title), blob)


def _history_entry(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not an entry of a history")
    canonical_json(value)  # raises if text in it cannot be written
    return value
