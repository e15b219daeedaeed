"""Custom bases for tests: OCI layouts of small layers, and the files of a suitable one."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from images.oci.descriptor import CONFIG_TYPE, MANIFEST_TYPE, digest_of

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
ELF_X86_64 = b"\x7fELF\x02\x01\x01" + bytes(11) + (62).to_bytes(2, "little") + bytes(44)
ELF_ARM64 = b"\x7fELF\x02\x01\x01" + bytes(11) + (183).to_bytes(2, "little") + bytes(44)
LIBC = "usr/lib/x86_64-linux-gnu/libc.so.6"


def libc(version: str) -> bytes:
    text = f"GNU C Library (Ubuntu GLIBC {version}-0ubuntu3.8) stable release version {version}.\n"
    return bytes(100_000) + text.encode() + bytes(1000)


FIT: Mapping[str, bytes | str] = {
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "etc/os-release": "../usr/lib/os-release",
    "usr/lib/os-release": b'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    LIBC: libc("2.35"),
    "usr/lib/x86_64-linux-gnu/libnuma.so.1": "libnuma.so.1.0.0",
    "usr/lib/x86_64-linux-gnu/libnuma.so.1.0.0": b"",
    "usr/bin/python3.11": ELF_X86_64,
    "usr/bin/python3": "python3.11",
    "usr/lib/python3.11/os.py": b"",
    "usr/lib/python3.11/__pycache__/os.cpython-311.pyc": b"\xa7\x0d\x0d\x0a" + bytes(12),
    "usr/include/python3.11/Python.h": b"",
    "usr/bin/gcc": "gcc-12",
    "usr/bin/gcc-12": ELF_X86_64,
    "usr/bin/g++": ELF_X86_64,
}
"""The files of a base that fits every target: files by content, links by target (a str)."""


def tar_of(files: Mapping[str, bytes | str | None]) -> bytes:
    """A layer's tar: bytes are a file, a str is a symbolic link, None is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content if isinstance(content, bytes) else b""))
    return out.getvalue()


class Layout:
    """An OCI layout that images are put into."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self._index: list[dict[str, Any]] = []

    def put(self, content: bytes) -> dict[str, Any]:
        """Keep a blob; return its descriptor without the media type."""
        digest = digest_of(content)
        self.blob(digest).write_bytes(content)
        return {"digest": digest, "size": len(content)}

    def blob(self, digest: str) -> Path:
        return self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def layer(self, files: Mapping[str, bytes | str | None]) -> tuple[dict[str, Any], str]:
        """A gzip layer: its descriptor and its diff id."""
        tar = tar_of(files)
        descriptor = self.put(gzip.compress(tar, mtime=0))
        return {**descriptor, "mediaType": GZIP}, digest_of(tar)

    def image(
        self,
        layers: Sequence[tuple[dict[str, Any], str]],
        *,
        architecture: str = "amd64",
        history: Sequence[dict[str, Any]] | None = None,
        tag: str = "base",
        **settings: Any,
    ) -> str:
        """Add an image of layers; return the digest of its manifest."""
        config: dict[str, Any] = {
            "architecture": architecture,
            "config": settings,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
        }
        if history is not None:
            config["history"] = list(history)
        head = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {**self.put(json.dumps(config).encode()), "mediaType": CONFIG_TYPE},
            "layers": [descriptor for descriptor, _ in layers],
        }
        return self.named(json.dumps(head).encode(), MANIFEST_TYPE, tag)

    def named(self, content: bytes, media_type: str, tag: str) -> str:
        """Put a manifest or an index in under a tag; return its digest."""
        annotations = {"org.opencontainers.image.ref.name": tag}
        descriptor = {**self.put(content), "mediaType": media_type}
        self._index.append({**descriptor, "annotations": annotations})
        index = {"schemaVersion": 2, "manifests": self._index}
        (self.path / "index.json").write_text(json.dumps(index))
        return str(descriptor["digest"])
