"""Every reason to refuse a custom base."""

from __future__ import annotations

import dataclasses

import pytest

from images.content.custom_base import fit
from images.inputs.build_options import FetchOptions
from images.oci.store.store import Store
from tests.unit.custom_bases import (
    NVIDIA,
    TARGET,
    ready,
    refused,
)
from tests.unit.layouts import ELF_ARM64, FIT, LIBC, Layout, libc


def without(*paths: str) -> dict[str, bytes | str]:
    return {path: content for path, content in FIT.items() if path not in paths}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({path.replace("3.11", "3.12"): x for path, x in FIT.items()},
         "no Python 3.11 with its standard library on its PATH (there is /usr/bin/python3.12)"),
        (without("usr/lib/python3.11/os.py"), "no Python 3.11 with its standard library"),
        ({**FIT, "usr/bin/python3.11": ELF_ARM64}, "not an x86-64 program (ELF machine 183)"),
        ({**FIT, "usr/bin/python3.11": b"#!/bin/sh\n"}, "not an x86-64 program (ELF machine 0)"),
        ({**FIT, "usr/lib/python3.11/__pycache__/os.cpython-311.pyc": b"\xcb\x0d\x0d\x0a"},
         "magic number cb0d0d0a"),
        ({**FIT, LIBC: libc("2.27")}, "its glibc is 2.27, and torch==2.8.0 needs 2.28"),
        ({**FIT, LIBC: libc("2.31")}, "no CUDA compiler: the one added needs glibc 2.34"),
        (without(LIBC), "it has no glibc 2"),
        (without("usr/bin/g++"), "it lacks g++"),
        (without("usr/bin/gcc-12"), "it lacks gcc"),
        (without("usr/include/python3.11/Python.h"), "lacks /usr/include/python3.11/Python.h"),
        (without("usr/lib/x86_64-linux-gnu/libnuma.so.1"), "it lacks libnuma.so.1"),
        ({**FIT, "opt/venv/bin/x": b""}, "/opt/venv is taken"),
        ({**FIT, "opt": "/data/opt"}, "/opt is taken"),
        ({**FIT, **NVIDIA, "usr/local/cuda-12.8/version.json": b"{}"}, "no version.json"),
        ({**FIT, **NVIDIA, "usr/local/cuda-12.8/version.json":
          b'{"cuda": {"version": "13.0.1"}}'}, "compiler is 13.0, and the target is for CUDA 12.8"),
        ({**FIT, "usr/local/cuda/lib64/libcudart.so.12": b""}, "/usr/local/cuda without nvcc"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_files_that_do_not_fit(
    base_layout: Layout,
    fetch_options: FetchOptions,
    store: Store,
    files: dict[str, bytes | str],
    reason: str,
) -> None:
    reasons = refused(base_layout.image([base_layout.layer(files)]), fetch_options, store)
    assert any(reason in found for found in reasons), reasons


def test_all_reasons_are_reported_at_once(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    layers = [base_layout.layer(without("usr/bin/gcc", "usr/bin/python3.11"))] * 40
    reasons = refused(base_layout.image(layers), fetch_options, store)
    for word in ("Python 3.11", "gcc", "40 layers and the target"):
        assert any(word in reason for reason in reasons), reasons


def test_whiteout_of_an_upper_layer_counts(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    layers = [base_layout.layer(FIT), base_layout.layer({"usr/bin/.wh.python3.11": b""})]
    assert "no Python 3.11" in refused(base_layout.image(layers), fetch_options, store)[0]


def test_nothing_but_the_base_was_fetched_for_a_refusal(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    digest = base_layout.image([base_layout.layer(FIT)], architecture="arm64")
    assert "linux/arm64" in refused(digest, fetch_options, store)[0]
    assert not list(fetch_options.cache.glob("*/layer"))


def test_debian_packages_of_a_flavour_are_compared_with_those_of_the_base(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    names = ("git.list", "git.md5sums", "rsync:amd64.list")
    dpkg = {f"var/lib/dpkg/info/{name}": b"" for name in names}
    lower = base_layout.layer({**FIT, **dpkg, "var/lib/dpkg/info/tmux.list": b""})
    digest = base_layout.image([lower, base_layout.layer({"var/lib/dpkg/info/.wh.tmux.list": b""})])
    facts = ready(digest, fetch_options, store)[0].facts
    assert facts.debian == ("git", "rsync")
    target = dataclasses.replace(TARGET, flavour="roll", debian=("git", "rsync", "tmux"))
    assert fit.lacking_debs(target, facts) == ("tmux",)
    none = ready(base_layout.image([base_layout.layer(FIT)]), fetch_options, store)[0].facts
    assert fit.lacking_debs(target, none) == ("git", "rsync", "tmux")
