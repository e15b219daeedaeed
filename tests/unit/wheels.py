"""Small real wheels."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

MakeWheel = Callable[..., Path]
"""`make_wheel(files, name=…, version=…, tag=…, record=…, modes=…)`: the path of the wheel."""


def record_of(files: Mapping[str, bytes], own: str) -> str:
    """Return the text of a RECORD that lists these files and itself."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        rows.writerow([path, f"sha256={digest}", len(content)])
    rows.writerow([own, "", ""])
    return out.getvalue()


def write_wheel(
    directory: Path,
    files: Mapping[str, bytes],
    *,
    name: str = "demo",
    version: str = "1.0",
    tag: str = "py3-none-any",
    record: str | None = None,
    modes: Mapping[str, int] | None = None,
    metadata: str = "",
) -> Path:
    """Write a wheel of these files; its metadata and RECORD are made unless they are given."""
    info = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    whole = {
        f"{info}/METADATA": (head + metadata).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        **files,
    }
    if record is None:
        record = record_of(whole, f"{info}/RECORD")
    whole.setdefault(f"{info}/RECORD", record.encode())
    path = directory / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in whole.items():
            entry = zipfile.ZipInfo(member)
            entry.external_attr = (modes or {}).get(member, 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return path


def repeated(path: Path, member: str, count: int) -> Path:
    """Add names for the bytes of a member to a zip's directory."""
    with zipfile.ZipFile(path, "a") as archive:
        info = archive.getinfo(member)
        archive.filelist += [_renamed(info, f"one/{number}") for number in range(count)]
        archive._didModify = True  # type: ignore[attr-defined]
    return path


def _renamed(info: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    copy = zipfile.ZipInfo(name)
    for field in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
        setattr(copy, field, getattr(info, field))
    return copy
