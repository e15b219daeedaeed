"""Logins of package indexes: from where uv has them, and to no other place."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.inputs.fetch import index_login

HOST = "https://files.example.org:8443"
FILE = f"{HOST}/a/b.whl"
WITH = "https://me:p%40ss@files.example.org:8443"


def located(url: str, **environ: str) -> str:
    return index_login.with_logins({"x": url}, environ)["x"]


@pytest.mark.parametrize("variable", ["UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL",
                                      "UV_EXTRA_INDEX_URL"])  # fmt: skip
def test_login_in_an_address(variable: str) -> None:
    assert located(FILE, **{variable: f"https://other.org/x {WITH}/simple"}) == f"{WITH}/a/b.whl"


def test_login_of_a_named_index() -> None:
    names = {"UV_INDEX_OUR_OWN_USERNAME": "me", "UV_INDEX_OUR_OWN_PASSWORD": "p@ss"}
    assert located(FILE, UV_INDEX=f"our-own={HOST}/simple", **names) == f"{WITH}/a/b.whl"


@pytest.mark.parametrize(
    "text",
    [
        f"index-url = '{WITH}/simple'",
        f"[pip]\nextra-index-url = ['{WITH}/simple']",
        f"[[index]]\nname = 'x'\nurl = '{WITH}/simple'",
    ],
)
@pytest.mark.parametrize("variable", ["UV_CONFIG_FILE", "XDG_CONFIG_HOME", "HOME"])
def test_login_in_a_file(tmp_path: Path, text: str, variable: str) -> None:
    places = {"UV_CONFIG_FILE": "uv.toml", "XDG_CONFIG_HOME": "uv/uv.toml"}
    file = tmp_path / places.get(variable, ".config/uv/uv.toml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    given = str(file if variable == "UV_CONFIG_FILE" else tmp_path)
    assert located(FILE, **{variable: given}) == f"{WITH}/a/b.whl"
    assert located(FILE, UV_NO_CONFIG="1", **{variable: given}) == FILE


@pytest.mark.parametrize(
    "text", ["not toml", "index = 5", "[[index]]\nname = 'x'", "index-url = 5"]
)
def test_file_that_cannot_be_read_is_uvs_affair(tmp_path: Path, text: str) -> None:
    (tmp_path / "uv.toml").write_text(text)
    assert located(FILE, UV_CONFIG_FILE=str(tmp_path / "uv.toml")) == FILE
    assert located(FILE, UV_CONFIG_FILE=str(tmp_path / "none.toml")) == FILE


@pytest.mark.parametrize(
    ("index", "url"),
    [
        ("https://me:p@host.example:443/simple", "https://host.example/a.whl"),
        ("https://me:p@Host.example/simple", "https://HOST.example:443/a.whl"),
        ("http://me:p@host.example/simple", "http://host.example:80/a.whl"),
    ],
)
def test_login_counts_for_the_same_server_in_other_words(index: str, url: str) -> None:
    assert located(url, UV_DEFAULT_INDEX=index) == url.replace("://", "://me:p@")


@pytest.mark.parametrize(
    ("content", "url", "login"),
    [
        ("machine host.example login me password p", "https://host.example/a.whl", "me:p@"),
        ("default login me password p", "https://host.example/a.whl", "me:p@"),
        ("machine other.example login me password p", "https://host.example/a.whl", ""),
        ("default login me password p", "https://other.example/a.whl", ""),
        ("default login me password p", "http://host.example/a.whl", ""),
        ("no netrc", "https://host.example/a.whl", ""),
    ],
)
def test_netrc_of_an_index(tmp_path: Path, content: str, url: str, login: str) -> None:
    (tmp_path / "netrc").write_text(content)
    settings = {"UV_DEFAULT_INDEX": "https://host.example/simple"}
    found = located(url, NETRC=str(tmp_path / "netrc"), **settings)
    assert found == url.replace("://", f"://{login}")
    settings["UV_DEFAULT_INDEX"] = "https://you:own@host.example/simple"
    found = located("https://host.example/", NETRC=str(tmp_path / "netrc"), **settings)
    assert found == "https://you:own@host.example/"


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example.org:8443/a.whl",
        "https://files.example.org/a.whl",
        "https://sub.files.example.org:8443/a.whl",
        "https://files.example.org:8443.evil.org/a.whl",
        "https://you:own@files.example.org:8443/a.whl",
        "file:///files.example.org:8443/a.whl",
    ],
)
def test_login_goes_nowhere_else(url: str) -> None:
    assert located(url, UV_DEFAULT_INDEX=f"{WITH}/simple") == url
