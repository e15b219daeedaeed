"""Headers of tar members: the very bytes of `tarfile`."""

from __future__ import annotations

import tarfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from images.oci.layer import tar_header
from images.oci.layer.entry import Entry

KINDS = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
}


def by_tarfile(entry: Entry) -> bytes:
    """As the first version of this program had it."""
    info = tarfile.TarInfo(entry.path)
    info.type = KINDS[entry.kind]
    info.mode = 0o777 if entry.kind == "symlink" else entry.mode
    info.uid, info.gid = entry.uid, entry.gid
    info.size = entry.size if entry.kind == "file" else 0
    info.mtime = 549_864_182
    info.linkname = entry.target
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


# A short word many times over: lengths on both sides of a field's end, and of a record's digits.
WORDS = st.text(
    st.characters(min_codepoint=1, max_codepoint=126, exclude_characters="/"), min_size=1
)
LONG = st.builds(
    lambda word, length: (word * length)[:length], WORDS, st.integers(1, 120) | st.integers(1, 1100)
)
PATHS = st.lists(LONG, min_size=1, max_size=3).map("/".join)
FOREIGN = st.sampled_from(["ünïcødé", "文件", "é" * 100, "surrogate\udcff", "a/" * 60 + "é"])
NAMES = PATHS | FOREIGN
OWNERS = st.integers(0, 3000) | st.sampled_from([8**7 - 1, 8**7, 2**31])
ENTRIES = st.builds(
    Entry,
    path=NAMES,
    kind=st.sampled_from(["file", "dir", "symlink", "hardlink"]),
    mode=st.integers(0, 0o7777),
    size=st.integers(0, 10**7) | st.sampled_from([8**11 - 1, 8**11, 10**12]),
    target=st.just("") | NAMES,
    uid=OWNERS,
    gid=OWNERS,
)


@given(ENTRIES)
@example(Entry("d" * 99, "dir"))
@example(Entry("d" * 100, "dir"))  # with its slash it is one byte too long
@example(Entry("f", mode=0o100644))
def test_header_is_that_of_tarfile(entry: Entry) -> None:
    assert tar_header.of(entry) == by_tarfile(entry)


def test_every_length_gives_the_header_of_tarfile() -> None:
    for length in range(1, 1100):
        for entry in (Entry("n" * length), Entry("f", "symlink", target="n" * length)):
            assert tar_header.of(entry) == by_tarfile(entry)


def test_usual_entries_are_not_left_to_tarfile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be right, and slow."""
    monkeypatch.delattr(tar_header, "by_tarfile")
    for entry in (
        Entry("opt/venv/lib", "dir", 0o755),
        Entry("opt/venv/bin/python", "symlink", target="/usr/bin/python3.11"),
        Entry("opt/venv/lib/" + "deep/" * 40 + "f.py", size=10**9),
        Entry("a", "hardlink", target="b" * 300),
    ):
        assert tar_header.of(entry) == by_tarfile(entry)
