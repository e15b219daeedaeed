"""uv as the resolver: the files of a resolution, and uv's own words when it fails."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from images.errors import FetchError, LockError, StoreError, ToolError
from images.inputs.lock.artifact import Artifact
from images.inputs.resolve import uv
from tests.unit.faulty_server import Faulty
from tests.unit.servers import identity, serving
from tests.unit.wheels import write_wheel

JSON = "application/vnd.pypi.simple.v1+json"


class Index:
    """A package index on the test's own server, in the JSON form or as HTML."""

    def __init__(self, server: Faulty, directory: Path) -> None:
        self.server, self._directory = server, directory
        self._files: dict[str, dict[str, bytes]] = {}

    def add(self, filename: str, requires: str = "") -> Artifact:
        """Publish a wheel or, when the name ends so, an sdist without dependencies."""
        name, version, *rest = filename.removesuffix(".whl").split("-")
        if filename.endswith(".whl"):
            metadata = f"Requires-Dist: {requires}\n" if requires else ""
            tag = "-".join(rest[-3:])
            path = write_wheel(
                self._directory, {}, name=name, version=version, tag=tag, metadata=metadata
            )
            with zipfile.ZipFile(path, "a") as archive:
                archive.comment = filename.encode()  # each file has its own hash
            content = path.read_bytes()
        else:
            content = filename.encode()
        self._files.setdefault(name, {})[filename] = content
        self.publish()
        return Artifact(filename, hashlib.sha256(content).hexdigest(), len(content))

    def publish(self, *, hashes: bool = True, html: bool = False) -> None:
        for name, files in self._files.items():
            page = f"/simple/{name}/"
            for filename, content in files.items():
                self.server.files[f"/files/{filename}"] = content
            documents = [self._document(*item, hashes) for item in files.items()]
            links = [
                f'<a href="{item["url"]}#sha256={item["hashes"].get("sha256")}">'
                f"{item['filename']}</a>"
                for item in documents
            ]
            text = (
                f"<html><body>{''.join(links)}</body></html>"
                if html
                else json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": documents})
            )
            self.server.files[page] = text.encode()
            self.server.headers[page] = {"Content-Type": "text/html" if html else JSON}

    def _document(self, filename: str, content: bytes, hashes: bool) -> dict[str, Any]:
        sha256 = hashlib.sha256(content).hexdigest()
        return {
            "filename": filename,
            "url": self.server.url(f"/files/{filename}"),
            "hashes": {"sha256": sha256} if hashes else {},
            "size": len(content),
            "upload-time": "2024-01-01T00:00:00Z",
        }


@pytest.fixture
def index(server: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    for name in ("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_DEFAULT_INDEX", server.url("/simple/", "user:s3cr3t@"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    (tmp_path / "published").mkdir()
    return Index(server, tmp_path / "published")


def test_resolution_locks_name_version_hash_size_and_place(index: Index) -> None:
    index.add("demo-1.0-cp310-cp310-manylinux_2_17_x86_64.whl")
    wheel = index.add("demo-1.0-cp311-cp311-linux_x86_64.whl", requires="Needed.Thing>=2")
    needed = index.add("needed_thing-2.0-py3-none-any.whl")
    index.server.files["/simple/needed-thing/"] = index.server.files["/simple/needed_thing/"]
    index.server.headers["/simple/needed-thing/"] = {"Content-Type": JSON}
    found = uv.resolve(uv.Request(["demo"]))
    assert [(item.name, item.version, item.artifact) for item in found] == [
        ("demo", "1.0", wheel),
        ("needed-thing", "2.0", needed),
    ]
    assert found[0].url == index.server.url(f"/files/{wheel.filename}")
    assert [item.name for item in uv.resolve(uv.Request(["demo"], dependencies=False))] == ["demo"]


def test_settings_above_the_temporary_directory_are_not_read(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user may write to /tmp: an index that is named there would get our indexes' logins."""
    artifact = index.add("demo-1.0-py3-none-any.whl")
    (tmp_path / "uv.toml").write_text('[[index]]\nurl = "http://127.0.0.1:1/"\n')
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.delenv("UV_NO_CONFIG", raising=False)
    (locked,) = uv.resolve(uv.Request(["demo"]))
    assert locked.artifact == artifact


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", ""])
def test_certificates_are_trusted_as_downloads_trust_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    tls = identity(tmp_path)
    hashes = {"sha256": "0" * 64}
    url = "https://host.example/demo-1.0-py3-none-any.whl"
    item = {"filename": "demo-1.0-py3-none-any.whl", "url": url, "hashes": hashes, "size": 1}
    page = {"meta": {"api-version": "1.1"}, "name": "demo", "files": [item]}
    with serving(
        lambda _: (200, {"Content-Type": JSON}, json.dumps(page).encode()),
        name="localhost",
        tls=tls.context(),
    ) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        request = uv.Request(["demo"], dependencies=False)
        if variable:
            place = tls.authority if variable != "SSL_CERT_DIR" else tmp_path
            monkeypatch.setenv(variable, str(place))
            assert [locked.url for locked in uv.resolve(request)] == [url]
            return
        with pytest.raises(LockError, match="invalid peer certificate") as error:
            uv.resolve(request)
        assert "UV_SYSTEM_CERTS" in (error.value.remedy or "")


def test_constraints_overrides_and_date_bend_the_resolution(index: Index) -> None:
    for version in ("1.0", "2.0", "3.0"):
        index.add(f"demo-{version}-py3-none-any.whl")
    index.add("above-1.0-py3-none-any.whl", requires="demo==3.0")
    assert [item.version for item in uv.resolve(uv.Request(["demo"]))] == ["3.0"]
    assert [item.version for item in uv.resolve(uv.Request(["demo"], constraints=["demo<3"]))] == [
        "2.0"
    ]
    assert [
        item.version for item in uv.resolve(uv.Request(["above"], overrides=["demo==1.0"]))
    ] == [
        "1.0",
        "1.0",
    ]
    with pytest.raises(LockError):
        uv.resolve(uv.Request(["demo"], exclude_newer="2023-01-01T00:00:00Z"))


# -- errors of uv ----------------------------------------------------------------------------------


def test_no_solution_is_reported_by_uvs_message(index: Index) -> None:
    index.add("demo-1.0-py3-none-any.whl")
    with pytest.raises(LockError, match=r"uv pip compile failed:\n(.|\n)*demo>=2"):
        uv.resolve(uv.Request(["demo>=2"]))


def test_missing_distribution_is_reported_without_credentials(index: Index) -> None:
    with pytest.raises(LockError, match="nowhere") as error:
        uv.resolve(uv.Request(["nowhere"]))
    assert "s3cr3t" not in error.value.message


@pytest.mark.parametrize("status", [401, 403, 500])
def test_index_that_refuses_is_reported_without_credentials(index: Index, status: int) -> None:
    index.server.faults["/simple/demo/"] = [status] * 20
    with pytest.raises(LockError, match="uv pip compile failed") as error:
        uv.resolve(uv.Request(["demo"]))
    assert "s3cr3t" not in error.value.message


def test_index_without_hashes_is_no_obstacle_as_uv_makes_them(index: Index) -> None:
    wheel = index.add("demo-1.0-py3-none-any.whl")
    index.publish(hashes=False)
    assert [item.artifact for item in uv.resolve(uv.Request(["demo"]))] == [wheel]


def test_index_without_sizes_is_refused(index: Index) -> None:
    index.add("demo-1.0-py3-none-any.whl")
    index.publish(html=True)
    with pytest.raises(LockError, match=r"demo-1\.0-py3-none-any\.whl: .* state its size") as error:
        uv.resolve(uv.Request(["demo"]))
    assert "PEP 700" in (error.value.remedy or "")


def test_uv_that_cannot_be_run_is_a_tool_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uv, "find", lambda: str(tmp_path / "uv"))
    with pytest.raises(ToolError, match="uv cannot be run"):
        uv.run(["--version"], cwd=tmp_path)


def test_uv_is_the_pinned_one(tmp_path: Path) -> None:
    assert Path(uv.find()).is_relative_to(sys.prefix)


# -- where locked files are ------------------------------------------------------------------------


@pytest.mark.parametrize("html", [False, True])
def test_locked_files_are_found_by_hash_on_any_kind_of_index(index: Index, html: bool) -> None:
    best = index.add("demo-1.0-cp311-cp311-linux_x86_64.whl")
    locked = index.add("demo-1.0-cp311-abi3-manylinux_2_28_x86_64.whl")
    other = index.add("other-1.0-py3-none-any.whl")
    index.publish(html=html)
    found = uv.locate({"demo==1.0": locked, "other==1.0": other})
    assert {artifact: url.partition("#")[0] for artifact, url in found.items()} == {
        artifact: index.server.url(f"/files/{artifact.filename}") for artifact in (locked, other)
    }
    assert best not in found


def test_two_locked_versions_of_one_distribution_are_both_found(index: Index) -> None:
    wanted = {
        f"demo=={version}": index.add(f"demo-{version}-py3-none-any.whl")
        for version in ("1.0", "2.0")
    }
    assert uv.locate(wanted).keys() == set(wanted.values())


def test_file_with_another_hash_is_not_taken(index: Index) -> None:
    index.add("demo-1.0-py3-none-any.whl")
    locked = Artifact("demo-1.0-py3-none-any.whl", "0" * 64, 5)
    assert uv.locate({"demo==1.0": locked}) == {}


def test_words_of_uv_count_wherever_it_breaks_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wraps them, so where depends on the paths in them."""
    program = tmp_path / "uv"
    monkeypatch.setattr(uv, "find", lambda: str(program))
    for words, error in (("No\n space left on\n device", StoreError), ("other words", LockError)):
        program.write_text(f"#!/bin/sh\necho 'cause: {words}' >&2\nexit 2\n")
        program.chmod(0o755)
        with pytest.raises(error):
            uv.run(["pip", "compile"], cwd=tmp_path)


def test_version_that_is_gone_is_a_fetch_error_without_credentials(index: Index) -> None:
    index.add("demo-1.0-py3-none-any.whl")
    locked = Artifact("demo-2.0-py3-none-any.whl", "0" * 64, 5)
    with pytest.raises(FetchError, match="demo==2") as error:
        uv.locate({"demo==2.0": locked})
    assert "s3cr3t" not in error.value.message
    assert "--cache" in (error.value.remedy or "")


def test_a_uv_that_is_not_that_of_the_package_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uv.find_uv_bin", lambda: "/bin/true")
    uv.find.cache_clear()
    with pytest.raises(ToolError, match="/bin/true: not the version of uv"):
        uv.find()
