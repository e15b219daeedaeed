"""A tar in pieces: its members with their contents, and damage reported."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest

from images.errors import IntegrityError
from images.oci.layer.tar_stream import REGULAR, TarStream

CONTENTS = {"a": b"", "b": b"x" * 1000, "c/" + "long/" * 40 + "name": bytes(70_000)}
"""Without content, of less than two blocks, and with a pax header and many blocks."""


def tar_of(contents: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


@pytest.mark.parametrize("size", [100, 512, 1 << 20])
def test_members_with_their_contents(size: int) -> None:
    stream = TarStream(pieces(tar_of(CONTENTS), size))
    found = {item.name: b"".join(stream.content(item)) for item in stream.members()}
    assert found == CONTENTS


def test_contents_may_be_left_out() -> None:
    content = tar_of(CONTENTS)
    stream = TarStream(pieces(content, 1000))
    assert [item.name for item in stream.members() if item.type in REGULAR] == list(CONTENTS)
    assert stream.position == len(content)


def test_empty_tar_has_no_members(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    upstream = tarfile.TarFile.next

    def counted(self: tarfile.TarFile) -> tarfile.TarInfo | None:
        asked.append(self.offset)
        return upstream(self)

    monkeypatch.setattr(tarfile.TarFile, "next", counted)
    content = tar_of({})
    stream = TarStream(pieces(content, 512))
    assert list(stream.members()) == []
    assert stream.position == len(content)
    # Asked again, Python 3.10 would seek, and there is nothing to seek in.
    assert asked == [0]


def test_truncated_tar_is_reported() -> None:
    stream = TarStream(pieces(tar_of({"b": bytes(2000)})[:1500], 512))
    with pytest.raises(IntegrityError, match="not a tar: unexpected end of data"):
        list(stream.members())


def test_truncated_content_is_reported() -> None:
    stream = TarStream(pieces(tar_of({"b": bytes(2000)})[:1500], 512))
    member = next(stream.members())
    with pytest.raises(IntegrityError, match="b: its content is truncated"):
        list(stream.content(member))


@pytest.mark.parametrize("content", [b"no tar", b"no tar" * 1000])
def test_other_bytes_are_reported(content: bytes) -> None:
    with pytest.raises(IntegrityError, match="not a tar"):
        list(TarStream(iter([content])).members())
