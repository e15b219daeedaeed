"""Layers one over the other: whiteouts, links, and what is kept of files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

import pytest

from images.content.custom_base.file_tree import Tree
from images.errors import IntegrityError
from tests.unit.layouts import tar_of


def tree(*layers: Mapping[str, bytes | str | None]) -> Tree:
    found = Tree(lambda path: 5)
    for files in layers:
        found.add_layer(iter([tar_of(files)]))
    return found


def test_upper_layers_hide_lower_ones() -> None:
    found = tree({"a/x": b"lower", "a/y": b"y"}, {"a/x": b"upper"})
    assert found.content("a/x") == b"upper"
    assert found.content("/a/y") == b"y"


def test_only_as_much_content_is_kept_as_is_asked_for() -> None:
    assert tree({"a": b"123456789"}).content("a") == b"12345"


def test_whiteout_takes_a_file_and_a_whole_directory() -> None:
    found = tree({"a/x": b"1", "a/y": b"2", "b/c/d": b"3"}, {"a/.wh.x": b"", ".wh.b": b""})
    assert found.names("a") == ["y"]
    assert found.names("") == ["a"]


@pytest.mark.parametrize("reverse", [False, True])
def test_whiteout_leaves_what_its_own_layer_brings(reverse: bool) -> None:
    upper: list[tuple[str, bytes]] = [("a/.wh.x", b""), ("a/x", b"new")]
    found = tree({"a/x": b"old"}, dict(upper[::-1] if reverse else upper))
    assert found.content("a/x") == b"new"


@pytest.mark.parametrize("reverse", [False, True])
def test_opaque_directory_hides_all_that_lower_layers_have_in_it(reverse: bool) -> None:
    upper: list[tuple[str, bytes]] = [("a/.wh..wh..opq", b""), ("a/b/new", b"")]
    found = tree({"a/old": b"", "a/b/old": b"", "c": b""}, dict(upper[::-1] if reverse else upper))
    assert found.names("a") == ["b"]
    assert found.names("a/b") == ["new"]
    assert found.names("") == ["a", "c"]


def test_whited_out_directory_that_comes_again_is_empty_of_old_things() -> None:
    found = tree({"a/old": b""}, {"a/new": b"", ".wh.a": b""})
    assert found.names("a") == ["new"]


def test_file_takes_a_directorys_place_and_the_other_way_round() -> None:
    found = tree({"a/x": b"", "b": b""}, {"a": b"file", "b/y": b""})
    assert found.kind("a") == "file"
    assert found.names("b") == ["y"]


def test_links_are_followed_as_in_a_container() -> None:
    found = tree(
        {
            "usr/local/cuda": "/etc/alternatives/cuda",
            "etc/alternatives/cuda": "/usr/local/cuda-12.8",
            "usr/local/cuda-12.8/bin/nvcc": b"nvcc",
            "lib": "usr/lib",
            "usr/lib/up": "../../../../usr/lib/x",
            "usr/lib/x": b"x",
            "loop": "loop",
            "gone": "nowhere",
        }
    )
    assert found.resolve("usr/local/cuda/bin/nvcc") == "usr/local/cuda-12.8/bin/nvcc"
    assert found.is_file("/usr/local/cuda/bin/nvcc")
    assert found.content("lib/up") == b"x"
    assert found.kind("usr/local/cuda") == "symlink"
    assert found.resolve("loop") is None
    assert not found.is_file("gone")


def test_layer_that_writes_through_a_link_of_a_lower_one() -> None:
    found = tree({"lib": "usr/lib", "usr/lib/a": b"a"}, {"lib/b": b"b"})
    assert found.names("usr/lib") == ["a", "b"]
    assert found.kind("lib") == "symlink"


def test_explicit_directory_takes_a_links_place() -> None:
    found = tree({"lib": "usr/lib", "usr/lib/a": b"a"}, {"lib": None, "lib/b": b"b"})
    assert found.kind("lib") == "dir"
    assert found.names("lib") == ["b"]


def test_hard_link_has_the_content_of_its_file() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        first = tarfile.TarInfo("./a/x")
        first.size = 3
        tar.addfile(first, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("./b")
        link.type, link.linkname = tarfile.LNKTYPE, "a/x"
        tar.addfile(link)
    found = Tree(lambda path: 5)
    found.add_layer(iter([out.getvalue()]))
    assert found.content("b") == b"abc"


def test_what_is_no_tar_is_refused() -> None:
    with pytest.raises(IntegrityError, match="not a tar"):
        Tree(lambda path: 0).add_layer(iter([b"x" * 2000]))
