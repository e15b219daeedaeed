"""Tars of base packages: hostile ones are refused between the tar and a layer's bytes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from images.errors import IntegrityError
from images.formats import tar_entries
from images.oci.layer import writer


def hostile_tar(*members: tuple[str, bytes, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            tar.addfile(info)
    return out.getvalue()


HOSTILE = {
    "dots": hostile_tar(("../../evil", tarfile.REGTYPE, "")),
    "absolute": hostile_tar(("/etc/evil", tarfile.REGTYPE, "")),
    "link to nothing": hostile_tar(("a", tarfile.LNKTYPE, "nothing")),
    "link out": hostile_tar(("a", tarfile.LNKTYPE, "../../etc/passwd")),
    "link to itself": hostile_tar(("a", tarfile.LNKTYPE, "a")),
    "link to a link": hostile_tar(("a", tarfile.LNKTYPE, "b"), ("b", tarfile.SYMTYPE, "/etc")),
    "twice": hostile_tar(("a", tarfile.REGTYPE, ""), ("./a", tarfile.REGTYPE, "")),
    "below a file": hostile_tar(("a", tarfile.REGTYPE, ""), ("a/b", tarfile.REGTYPE, "")),
    "fifo": hostile_tar(("a", tarfile.FIFOTYPE, "")),
    "sparse": hostile_tar(("a", tarfile.GNUTYPE_SPARSE, "")),
    "no name": hostile_tar(("", tarfile.REGTYPE, "")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tar_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "base.tar"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(IntegrityError):
        writer.write(tar_entries.entries(path), io.BytesIO(), "gzip")
