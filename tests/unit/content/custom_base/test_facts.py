"""Facts about a custom base, read from its layers."""

from __future__ import annotations

from images.inputs.build_options import FetchOptions
from images.oci.store.store import Store
from tests.unit.custom_bases import (
    ready,
)
from tests.unit.layouts import FIT, Layout


def test_fit_base_gets_a_compiler(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    survey, titles = ready(base_layout.image([base_layout.layer(FIT)]), fetch_options, store)
    facts = survey.facts
    assert (facts.system, facts.glibc, facts.python) == (
        "Ubuntu 22.04.5 LTS", "2.35", "/usr/bin/python3.11",
    )  # fmt: skip
    assert (facts.nvcc, facts.cuda_home) == (False, False)
    assert titles[:2] == ["virtual environment of /usr/bin/python3.11", "CUDA compiler 12.4"]
    assert "Debian bookworm" not in titles


def test_python_elsewhere_on_the_path(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    files = {path.replace("usr/", "opt/python/"): content for path, content in FIT.items()
             if "ython3" in path}  # fmt: skip
    rest = {path: content for path, content in FIT.items() if "ython3" not in path}
    digest = base_layout.image(
        [base_layout.layer({**rest, **files})], Env=["PATH=/opt/python/bin:/usr/bin"]
    )
    survey, titles = ready(digest, fetch_options, store)
    assert survey.facts.python == "/opt/python/bin/python3.11"
    assert titles[0] == "virtual environment of /opt/python/bin/python3.11"


def test_link_to_a_python_without_a_library_beside_it_is_followed(
    base_layout: Layout, fetch_options: FetchOptions, store: Store
) -> None:
    files: dict[str, bytes | str] = {
        path.replace("usr/", "opt/p/"): content for path, content in FIT.items() if "ython3" in path
    }
    files |= {path: content for path, content in FIT.items() if "ython3" not in path}
    files["usr/local/bin/python3.11"] = "/opt/p/bin/python3.11"
    survey, _ = ready(base_layout.image([base_layout.layer(files)]), fetch_options, store)
    assert survey.facts.python == "/opt/p/bin/python3.11"
