"""SBOM and provenance in a real registry, found as the specification defines."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from images.attest import attach
from images.attest.materials import Materials
from images.errors import RegistryError
from images.export.push import push
from images.export.push.push import Pushed, PushOptions
from images.http.retry import Policy
from images.inputs.lock import base_lock, cuda_lock, target_lock
from images.inputs.matrix.load import load
from images.oci.descriptor import INDEX_TYPE, digest_of
from images.oci.image import Image
from images.oci.reference import Repository
from images.oci.referrer import Referrer
from images.oci.registry import manifests
from images.oci.registry.client import Registry
from images.oci.registry.upload_session import UploadSession
from images.oci.store.store import Store
from images.util.progress import Progress
from tests.integration.conftest import ROOT, TARGET, Cli
from tests.integration.registries import Fault, Proxy, ReferrersApi, need
from tests.unit.attestations import MATERIALS, build_of, image_in

QUICK = Policy(base_delay=0.01, max_delay=0.05)
PATIENT = Policy(base_delay=0.05, max_delay=1.0)
NAME = "team/app"


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture
def made(layout: Store) -> Image:
    """An image in the store, with its SBOM and provenance."""
    found = image_in(layout, ref=TARGET)
    attach.complete(layout, found, MATERIALS, build_of(layout.path.parent))
    return found


def pushed(
    layout: Store,
    made: Image,
    address: str,
    tag: str = "v1",
    policy: Policy = QUICK,
    **options: Any,
) -> Pushed:
    referrers = options.pop("referrers", layout.attached(made.manifest_digest))
    with Registry(Repository(address, NAME), plain_http=True, policy=policy) as connected:
        wishes = PushOptions(referrers=referrers, jobs=2, **options)
        return push.push(layout, made, connected, tag, wishes, progress=Progress())


def states(done: Pushed) -> list[str]:
    return [item.state for item in done.attached]


def asked(
    address: str, method: str, path: str, body: bytes | None = None, kind: str = INDEX_TYPE
) -> tuple[int, bytes]:
    """A request to the registry, without the project's client."""
    connection = HTTPConnection(address)
    headers = {"Accept": kind, **({"Content-Type": kind} if body else {})}
    connection.request(method, f"/v2/{NAME}/{path}", body, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def tag_of(made: Image) -> str:
    return made.manifest_digest.replace(":", "-")


def listed(address: str, made: Image) -> list[dict[str, Any]]:
    """What the index under the tag lists."""
    status, content = asked(address, "GET", f"manifests/{tag_of(made)}")
    assert status == 200
    index = json.loads(content)
    assert (index["schemaVersion"], index["mediaType"]) == (2, INDEX_TYPE)
    found: list[dict[str, Any]] = index["manifests"]
    return found


def wanted(layout: Store, made: Image) -> list[dict[str, Any]]:
    return [item.descriptor for item in layout.attached(made.manifest_digest)]


def others(layout: Store, made: Image, address: str, text: bytes = b"sig") -> Referrer:
    """A document that another tool pushed, without adding it to the index."""
    item = Referrer("application/vnd.example.sig", "sig", text, made.descriptor, {"by": "others"})
    with Registry(Repository(address, NAME), plain_http=True, policy=QUICK) as connected:
        for content in (text, b"{}"):
            UploadSession.begin(connected).finish(digest_of(content), content)
        manifests.put(connected, item.digest, item.manifest)
    return item


def index_of(*items: dict[str, Any]) -> bytes:
    document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": list(items)}
    return json.dumps(document).encode()


# -- a registry without the API: Distribution 2.8 --------------------------------------------------


def test_first_push_attaches_both_under_the_tag_of_the_digest(
    layout: Store, made: Image, server: str
) -> None:
    done = pushed(layout, made, server)
    assert states(done) == ["sent", "sent"]
    assert listed(server, made) == wanted(layout, made)


def test_another_tool_finds_them_intact(
    layout: Store, made: Image, server: str, tmp_path: Path
) -> None:
    need("skopeo")
    pushed(layout, made, server)
    for item in layout.attached(made.manifest_digest):
        source = f"docker://{server}/{NAME}@{item.digest}"
        place = tmp_path / item.title
        command = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", source]
        subprocess.run([*command, f"dir:{place}"], check=True, capture_output=True)
        manifest = json.loads((place / "manifest.json").read_bytes())
        assert manifest["subject"]["digest"] == made.manifest_digest
        (layer,) = manifest["layers"]
        assert (place / layer["digest"].removeprefix("sha256:")).read_bytes() == item.content


def test_unchanged_push_only_queries(layout: Store, made: Image, faulty: Proxy) -> None:
    pushed(layout, made, faulty.address)
    faulty.seen.clear()
    done = pushed(layout, made, faulty.address)
    assert (done.unchanged, states(done), done.bytes_sent) == (True, ["present"] * 2, 0)
    assert [(item.method, item.path.removeprefix(f"/v2/{NAME}/")) for item in faulty.seen] == [
        ("HEAD", "manifests/v1"),
        ("GET", f"referrers/{made.manifest_digest}"),
        ("GET", f"manifests/{tag_of(made)}"),
    ]


def test_image_pushed_without_them_gets_them_later(layout: Store, made: Image, server: str) -> None:
    pushed(layout, made, server, referrers=())
    assert asked(server, "GET", f"manifests/{tag_of(made)}")[0] == 404
    done = pushed(layout, made, server)
    assert (done.unchanged, states(done)) == (True, ["sent", "sent"])
    assert listed(server, made) == wanted(layout, made)


def test_bytes_sent_are_those_of_the_requests(layout: Store, made: Image, faulty: Proxy) -> None:
    pushed(layout, made, faulty.address, referrers=())
    faulty.seen.clear()
    done = pushed(layout, made, faulty.address)
    assert done.bytes_sent == sum(item.length for item in faulty.seen) > 0


def test_they_are_there_before_the_tag(layout: Store, made: Image, faulty: Proxy) -> None:
    pushed(layout, made, faulty.address)
    puts = [item.path.rpartition("/")[2] for item in faulty.requests("PUT", "/manifests/")]
    about = [item.digest for item in layout.attached(made.manifest_digest)]
    assert puts == [made.manifest_digest, *about, tag_of(made), "v1"]


def test_entries_of_others_stay(layout: Store, made: Image, server: str) -> None:
    pushed(layout, made, server, referrers=())
    theirs = others(layout, made, server).descriptor
    asked(server, "PUT", f"manifests/{tag_of(made)}", index_of(theirs))
    pushed(layout, made, server)
    assert listed(server, made) == [theirs, *wanted(layout, made)]


def test_entry_that_was_lost_comes_back_with_the_next_push(
    layout: Store, made: Image, faulty: Proxy
) -> None:
    pushed(layout, made, faulty.address)
    sbom, lost = wanted(layout, made)
    asked(faulty.upstream, "PUT", f"manifests/{tag_of(made)}", index_of(sbom))
    faulty.seen.clear()
    done = pushed(layout, made, faulty.address)
    assert states(done) == ["present", "sent"]
    assert listed(faulty.address, made) == [sbom, lost]
    assert not faulty.count("POST"), "no blob was sent again"


@pytest.mark.parametrize("when", ["before our index is put", "before it is read again"])
def test_other_client_that_changes_the_index_at_the_same_time(
    layout: Store, made: Image, faulty: Proxy, when: str
) -> None:
    """Our overwritten entries are restored; the other client must check its own."""
    pushed(layout, made, faulty.address, referrers=())
    theirs = others(layout, made, faulty.upstream).descriptor
    at = f"manifests/{tag_of(made)}"
    seen: list[str] = []

    def meanwhile(request: Any) -> bool:
        if request.path.endswith(at):
            seen.append(request.command)
            moment = ["GET", "GET", "PUT"] if "put" in when else ["GET", "GET", "PUT", "GET"]
            if seen == moment:
                asked(faulty.upstream, "PUT", at, index_of(theirs))
        return False

    faulty.guard = meanwhile
    pushed(layout, made, faulty.address)
    found = listed(faulty.upstream, made)
    assert all(item in found for item in wanted(layout, made))
    assert (theirs in found) == (when == "before it is read again")


def test_registry_that_refuses_a_stale_index_is_asked_again(
    layout: Store, made: Image, faulty: Proxy
) -> None:
    pushed(layout, made, faulty.address, referrers=())
    theirs = others(layout, made, faulty.upstream).descriptor
    asked(faulty.upstream, "PUT", f"manifests/{tag_of(made)}", index_of(theirs))
    given: list[str | None] = []

    def look(request: Any) -> bool:
        if request.command == "PUT" and "/manifests/sha256-" in request.path:
            given.append(request.headers.get("If-Match"))
        return False

    faulty.guard = look
    faulty.faults.append(Fault("status", "PUT", "/manifests/sha256-", status=412))
    pushed(layout, made, faulty.address)
    assert listed(faulty.upstream, made) == [theirs, *wanted(layout, made)]
    assert len(given) == 2
    assert all(given), "the PUT is conditional"


def test_index_that_never_stays_is_reported(layout: Store, made: Image, faulty: Proxy) -> None:
    faulty.faults.append(Fault("status", "PUT", "/manifests/sha256-", status=412, times=99))
    done = pushed(layout, made, faulty.address)
    assert states(done) == ["unlisted", "unlisted"]
    assert "another client keeps changing" in done.notes[0]


def test_index_that_is_shown_late_is_put_once(layout: Store, made: Image, faulty: Proxy) -> None:
    """Replicated storage: what was taken shows a little later."""
    hidden = [3]

    def late(request: Any) -> bool:
        puts = faulty.count("PUT", "/manifests/sha256-")
        if request.command == "GET" and "/manifests/sha256-" in request.path and puts:
            hidden[0] -= 1
            if hidden[0] >= 0:
                request.answer(404, {}, b"")
                return True
        return False

    faulty.guard = late
    done = pushed(layout, made, faulty.address)
    assert (states(done), done.notes) == (["sent", "sent"], ())
    assert faulty.count("PUT", "/manifests/sha256-") == 1
    assert listed(faulty.upstream, made) == wanted(layout, made)


@pytest.mark.parametrize("kind", ["torn", "deaf", "lost", "cut"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/referrers/"),
        ("GET", "/manifests/sha256-"),
        ("PUT", "/manifests/sha256:"),
        ("PUT", "/manifests/sha256-"),
    ],
)
def test_any_request_may_break(
    layout: Store, made: Image, faulty: Proxy, method: str, path: str, kind: str
) -> None:
    pushed(layout, made, faulty.address, referrers=())
    faulty.faults.append(Fault(kind, method, path, after=10))
    pushed(layout, made, faulty.address)
    assert not faulty.faults
    assert listed(faulty.upstream, made) == wanted(layout, made)


def test_eight_pushes_at_once_all_list_the_documents(
    layout: Store, made: Image, server: str
) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(pushed, layout, made, server, policy=PATIENT) for _ in range(8)]
    for done in (job.result() for job in jobs):
        assert set(states(done)) <= {"sent", "present"}
        assert done.notes == ()
    assert listed(server, made) == wanted(layout, made)


def test_index_that_is_refused_for_a_moment(layout: Store, made: Image, faulty: Proxy) -> None:
    """Distribution reports to one of two clients that its digest is invalid, and blobs unknown."""
    errors = {"errors": [{"code": "DIGEST_INVALID"}, {"code": "MANIFEST_BLOB_UNKNOWN"}]}
    left = [2]

    def guard(request: Any) -> bool:
        if request.command == "PUT" and "/manifests/sha256-" in request.path and left[0]:
            left[0] -= 1
            request.answer(400, {"Content-Type": "application/json"}, json.dumps(errors).encode())
            return True
        return False

    faulty.guard = guard
    assert pushed(layout, made, faulty.address).notes == ()
    assert listed(faulty.upstream, made) == wanted(layout, made)


# -- what cannot be --------------------------------------------------------------------------------


def test_tag_that_is_no_index_is_left_alone(layout: Store, made: Image, server: str) -> None:
    other = image_in(layout, content=b"other", ref="other")
    pushed(layout, other, server, tag_of(made), referrers=())
    done = pushed(layout, made, server)
    assert states(done) == ["unlisted", "unlisted"]
    assert "no list of referrers" in done.notes[0]
    kind = "application/vnd.oci.image.manifest.v1+json"
    status, content = asked(server, "GET", f"manifests/{tag_of(made)}", kind=kind)
    assert (status, content) == (200, other.manifest)


def test_registry_that_accepts_no_artifacts_gets_the_image(
    layout: Store, made: Image, faulty: Proxy
) -> None:
    (sbom, _) = layout.attached(made.manifest_digest)
    faulty.faults.append(Fault("status", "PUT", sbom.digest, status=400, times=99))
    done = pushed(layout, made, faulty.address)
    assert done.attached == ()
    assert "not all documents about it" in done.notes[0]
    assert "HTTP 400" in done.notes[0]
    kind = "application/vnd.oci.image.manifest.v1+json"
    assert asked(faulty.upstream, "GET", "manifests/v1", kind=kind)[0] == 200


@pytest.mark.parametrize("where", ["/manifests/sha256:", "/manifests/sha256-"])
def test_required_documents_fail_the_push_without_them(
    layout: Store, made: Image, faulty: Proxy, where: str
) -> None:
    faulty.faults.append(Fault("status", "PUT", where, status=400, times=99, skip=1))
    faulty.faults[0].skip = 0 if where.endswith("-") else 1  # the image's own manifest
    with pytest.raises(RegistryError, match="HTTP 400") as error:
        pushed(layout, made, faulty.address, attested=True)
    assert "--no-attest" in str(error.value.remedy)
    kind = "application/vnd.oci.image.manifest.v1+json"
    assert asked(faulty.upstream, "GET", "manifests/v1", kind=kind)[0] == 404


@pytest.mark.parametrize("status", [200, 302, 403, 404, 500])
def test_other_answers_than_a_list_mean_that_there_is_no_api(
    layout: Store, made: Image, faulty: Proxy, status: int
) -> None:
    faulty.faults.append(Fault("status", "GET", "/referrers/", status=status, times=9))
    assert pushed(layout, made, faulty.address).notes == ()
    assert listed(faulty.upstream, made) == wanted(layout, made)


@pytest.mark.parametrize("status", [403, 500])
def test_list_that_cannot_be_read_is_not_overwritten(
    layout: Store, made: Image, faulty: Proxy, status: int
) -> None:
    """Entries of others may be in it."""
    faulty.faults += [
        Fault("status", "GET", path, status=status, times=99)
        for path in ("/referrers/", "/manifests/sha256-")
    ]
    done = pushed(layout, made, faulty.address)
    assert states(done) == ["unlisted", "unlisted"]
    assert str(status) in done.notes[0]
    assert not faulty.count("PUT", "/manifests/sha256-")


def test_endless_list_counts_as_none(layout: Store, made: Image, faulty: Proxy) -> None:
    def endless(request: Any) -> bool:
        path = request.path.partition("?")[0]
        if "/referrers/" not in path:
            return False
        headers = {"Content-Type": INDEX_TYPE, "Link": f'<{path}?n={len(faulty.seen)}>; rel="next"'}
        request.answer(200, headers, index_of())
        return True

    faulty.guard = endless
    assert states(pushed(layout, made, faulty.address)) == ["sent", "sent"]
    assert listed(faulty.upstream, made) == wanted(layout, made)


# -- what they cost -------------------------------------------------------------------------------


def test_documents_of_an_image_with_the_same_locks_share_blobs(
    layout: Store, faulty: Proxy
) -> None:
    """Of an image that differs in `roll_runtime` alone, the SBOM is there already."""
    table = load(ROOT / "matrix.yaml")
    row = table.target(TARGET)
    locked = Materials(target_lock.read(table, row), base_lock.read(), cuda_lock.read(row.toolkit))

    def push_of(content: bytes) -> tuple[int, set[str]]:
        """The bytes of the documents, and the blobs that were sent with the image."""
        found = image_in(layout, content=content, ref=TARGET)
        attach.complete(layout, found, locked, build_of(layout.path.parent))
        faulty.seen.clear()
        whole = pushed(layout, found, faulty.address)
        blobs = {item.path.partition("digest=")[2] for item in faulty.requests("PUT", "/uploads/")}
        own = len(content) + len(found.config) + 2 * len(found.manifest)
        assert whole.bytes_sent == sum(item.length for item in faulty.seen)
        return whole.bytes_sent - own, {unquote(digest) for digest in blobs}

    first, _ = push_of(b"roll_runtime 1")
    second, blobs = push_of(b"roll_runtime 2")
    assert first > 100_000
    assert second < 6_000
    made = layout.load(TARGET)
    _, statement = layout.attached(made.manifest_digest)
    digests = [digest_of(statement.content), digest_of(b"roll_runtime 2"), made.config_digest]
    assert blobs == set(digests)


# -- a registry with the API -----------------------------------------------------------------------


@pytest.mark.parametrize("page", [100, 1])
def test_registry_with_the_api_needs_no_index(
    layout: Store, made: Image, faulty: Proxy, page: int
) -> None:
    api = ReferrersApi(faulty, page=page)
    done = pushed(layout, made, faulty.address)
    assert states(done) == ["sent", "sent"]
    assert api.listed(made.manifest_digest) == wanted(layout, made)
    assert asked(faulty.upstream, "GET", f"manifests/{tag_of(made)}")[0] == 404
    faulty.seen.clear()
    done = pushed(layout, made, faulty.address)
    assert (states(done), done.bytes_sent) == (["present", "present"], 0)
    assert {item.method for item in faulty.seen} == {"HEAD", "GET"}
    assert faulty.count("GET", "/referrers/") == (1 if page > 1 else 2)


# -- the command line ------------------------------------------------------------------------------


def test_push_attaches_by_default(layout: Store, made: Image, server: str) -> None:
    to = ["push", "--target", TARGET, "--to", f"{server}/{NAME}", "--plain-http", "--json"]
    cli = Cli(layout.path)
    bare = json.loads(cli.run(*to, "--no-attest").stdout)
    assert bare["attached"] == []
    assert asked(server, "GET", f"manifests/{tag_of(made)}")[0] == 404
    whole = json.loads(cli.run(*to).stdout)
    assert [item["digest"] for item in whole["attached"]] == [
        item["digest"] for item in listed(server, made)
    ]


@pytest.mark.parametrize(
    ("command", "kind"), [("sbom", attach.SBOM), ("provenance", attach.PROVENANCE)]
)
def test_documents_on_standard_output_or_in_a_file(
    layout: Store, made: Image, tmp_path: Path, command: str, kind: str
) -> None:
    content = attach.find(layout, made, kind)
    cli = Cli(layout.path)
    assert cli.run(command, "--target", TARGET).stdout.encode() == content
    out = tmp_path / "out.json"
    assert cli.run(command, "--target", TARGET, "--out", str(out)).returncode == 0
    assert out.read_bytes() == content
    missing = cli.run(command, "--target", TARGET, "--out", str(tmp_path / "no" / "out.json"))
    assert missing.returncode == 7
    assert "No such file" in missing.stderr
