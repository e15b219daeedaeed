"""Debian packages small enough to write by hand, and two of a lock."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
from collections.abc import Mapping
from pathlib import Path

from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb

GCC = Deb(
    "gcc-12",
    "12.2.0-14+deb12u1",
    "debian",
    "pool/main/g/gcc-12/gcc-12_12.2.0-14+deb12u1_amd64.deb",
    Artifact("gcc-12_12.2.0-14+deb12u1_amd64.deb", "ab" * 32, 123),
)
SSL = Deb(
    "libssl3",
    "3.0.22-1~deb12u2",
    "debian-security",
    "pool/updates/main/o/openssl/libssl3_3.0.22-1~deb12u2_amd64.deb",
    Artifact("libssl3_3.0.22-1~deb12u2_amd64.deb", "cd" * 32, 45),
)
"""Packages as locks list them; their files do not exist."""


def tar_of(
    files: Mapping[str, bytes], links: Mapping[str, str] | None = None, mode: int = 0o644
) -> bytes:
    """A tar of files, and of directories: names that end in `/`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mode = len(content), 0o755 if "bin/" in name else mode
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(f"./{name}")
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()


def ar_of(members: Mapping[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, content in members.items():
        head = f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(content):<10}`\n"
        out += head.encode() + content + b"\n" * (len(content) % 2)
    return out


def deb_of(
    package: str,
    files: Mapping[str, bytes],
    links: Mapping[str, str] | None = None,
    scripts: Mapping[str, str] | None = None,
    version: str = "1-1",
) -> bytes:
    control = f"Package: {package}\nVersion: {version}\nArchitecture: amd64\nMaintainer: x\n"
    programs = {name: f"#!/bin/sh\nset -e\n{text}\n" for name, text in (scripts or {}).items()}
    parts = {name: text.encode() for name, text in {"control": control, **programs}.items()}
    return ar_of(
        {
            "debian-binary": b"2.0\n",
            "control.tar.xz": lzma.compress(tar_of(parts, mode=0o755)),
            "data.tar.xz": lzma.compress(tar_of(files, links)),
        }
    )


def cached_deb(
    cache: Path,
    package: str,
    files: Mapping[str, bytes],
    links: Mapping[str, str] | None = None,
    scripts: Mapping[str, str] | None = None,
    version: str = "1-1",
) -> Deb:
    """Write a package into a download cache; return its locked record.

    `scripts` are the bodies of maintainer scripts, by name (`postinst`).
    """
    content = deb_of(package, files, links, scripts, version)
    name = f"{package}_{version}_amd64.deb"
    artifact = Artifact(name, hashlib.sha256(content).hexdigest(), len(content))
    path = cache / artifact.sha256 / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return Deb(package, version, "debian", f"pool/main/x/{package}/{name}", artifact)
