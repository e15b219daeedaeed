"""Promoting in a real registry: which image gets a tag, and which does not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from images.attest import evidence, evidence_check, labels
from images.attest.evidence import Evidence, Gpu, ImageId, Machine, Outcome, Proof
from images.errors import EvidenceError, IntegrityError, RegistryError, UsageError
from images.export import promote
from images.export.promote import Candidate
from images.export.push import push
from images.http.retry import Policy
from images.inputs.matrix.load import load
from images.oci.descriptor import MANIFEST_TYPE
from images.oci.image import Image, Layer
from images.oci.layer import writer
from images.oci.layer.entry import of_bytes
from images.oci.reference import Repository
from images.oci.registry.client import Registry
from images.oci.store import store
from images.oci.store.store import Store
from images.util.progress import Progress
from tests.integration.conftest import ROOT, TARGET, Cli
from tests.integration.registries import need, proxy, registry

QUICK = Policy(base_delay=0.01, max_delay=0.05)
MACHINE = Machine((Gpu("NVIDIA H100 80GB HBM3", 79.2, "9.0"),), "580.159.04", "13.0", "6.18.44")
NAME = "team/app"
UNKNOWN = f"sha256:{'0' * 64}"
ROW = load(ROOT / "matrix.yaml").target(TARGET)
LABELS = {
    **labels.versions(ROW),
    "roll.lock.sha256": UNKNOWN.removeprefix("sha256:"),
    "roll.runtime.version": "0.1.0",
}
CONFIGS: dict[str, str] = {}
"""The digest of each image's config, by its manifest's."""


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No login of the machine's user takes part."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "evidence" / f"{TARGET}.json"


def pushed(layout: Store, address: str, content: str) -> str:
    """An image in the registry, under a tag made from its content; returns its digest."""
    with layout.blobs.new_file() as (out, commit):
        blob = writer.write([of_bytes("opt/top", content.encode())], out, "gzip")
        commit(blob.digest)
    image = Image(TARGET, (Layer("top", blob),), {}, LABELS, "2025-01-01T00:00:00Z")
    layout.save(image)
    CONFIGS[image.manifest_digest] = image.config_digest
    with Registry(Repository(address, NAME), plain_http=True, policy=QUICK) as connected:
        tag = f"{TARGET}-{content}"
        push.push(layout, layout.load(TARGET), connected, tag, progress=Progress())
    return image.manifest_digest


def run(
    layout: Store, address: str, tag: str = "", *options: str
) -> subprocess.CompletedProcess[str]:
    """`build.py promote` as a user runs it."""
    to = f"{address}/{NAME}{tag}"
    return Cli(layout.path).run("promote", "--target", TARGET, "--to", to, "--plain-http", *options)


def prove(
    kept: Path, digest: str, outcome: str = "passed", target: str = TARGET, **changed: str
) -> None:
    """Evidence of the GPU suite, one test of it with another outcome."""
    known = {"config_digest": CONFIGS.get(digest, UNKNOWN), "lock_digest": UNKNOWN}
    image = ImageId(target, digest, **{**known, "roll_runtime": "0.1.0", **changed})
    tests = {name: Outcome("passed") for name in evidence_check.suite(evidence_check.GPU_SUITE)}
    tests["test_fp8.py::test_generates"] = Outcome(outcome)
    proof = Proof(MACHINE, "docker", "2026-11-24T21:36:58Z", tests, {})
    evidence.write(kept, Evidence(image, (proof,)))


def answers_otherwise(request: Any) -> bool:
    """Instead of the registry, with bytes that have another digest."""
    if request.command == "GET":
        request.answer(200, {"Content-Type": MANIFEST_TYPE}, b"{}")
        return True
    return False


def named(address: str, tag: str = TARGET) -> str | None:
    """The digest that a tag names there."""
    with Registry(Repository(address, NAME), plain_http=True, policy=QUICK) as connected:
        return connected.manifest_digest(tag)


def test_tag_is_moved_to_what_is_proven_without_a_blob(
    layout: Store, server: str, kept: Path
) -> None:
    old, new = pushed(layout, server, "1"), pushed(layout, server, "2")
    prove(kept, old)
    assert run(layout, server, "", "--evidence", str(kept)).returncode == 0
    assert named(server) == old

    prove(kept, new)
    done = run(layout, server, "", "--evidence", str(kept), "--digest", new, "--json")
    assert json.loads(done.stdout) == {
        "target": TARGET,
        "reference": f"{server}/{NAME}@{new}",
        "tag": TARGET,
        "manifest_digest": new,
        "before": old,
        "evidence": "H100 80GB HBM3, 2026-11-24",
    }
    assert named(server) == new
    assert named(server, f"{TARGET}-1") == old, "the tag that never moves has moved"


def test_engines_pull_the_promoted_tag(layout: Store, server: str, kept: Path) -> None:
    need("skopeo")
    digest = pushed(layout, server, "1")
    prove(kept, digest)
    assert run(layout, server, ":stable", "--evidence", str(kept)).returncode == 0
    place = kept.parent / "back"
    command = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false"]
    command += [f"docker://{server}/{NAME}:stable", f"oci:{place}:back"]
    subprocess.run(command, check=True, capture_output=True)
    assert store.open_store(place, create=False).images() == {"back": digest}


def test_nothing_is_written_where_the_tag_is_right(layout: Store, server: str, kept: Path) -> None:
    digest = pushed(layout, server, "1")
    prove(kept, digest)
    run(layout, server, "", "--evidence", str(kept))
    with (
        proxy(server) as faulty,
        Registry(Repository(faulty.address, NAME), plain_http=True, policy=QUICK) as connected,
    ):
        done = promote.promote(Candidate(TARGET, digest, ""), connected, TARGET)
        assert [item.method for item in faulty.seen] == ["HEAD"]
    assert done.unchanged


@pytest.mark.parametrize(
    ("outcome", "of", "why"),
    [
        ("failed", TARGET, "1 failed on H100 80GB HBM3"),
        ("not run", TARGET, "1 not run"),
        ("skipped", TARGET, "test_fp8.py::test_generates was skipped without a reason"),
        ("passed", "torch280-sglang055", "of another target"),
    ],
)
def test_evidence_that_proves_nothing(
    layout: Store, server: str, kept: Path, outcome: str, of: str, why: str
) -> None:
    digest = pushed(layout, server, "1")
    prove(kept, digest, outcome, of)
    done = run(layout, server, "", "--evidence", str(kept), "--digest", digest)
    assert done.returncode == EvidenceError.exit_code
    assert f"{digest} is not proven on a GPU: no ({why})" in done.stderr
    assert f"build.py test --target {TARGET} --gpu" in done.stderr
    assert named(server) is None


def test_proof_of_another_digest_counts_for_nothing(layout: Store, server: str, kept: Path) -> None:
    prove(kept, pushed(layout, server, "1"))
    other = pushed(layout, server, "2")
    options = ("--evidence", str(kept), "--digest", other)
    refused = run(layout, server, "", *options)
    assert refused.returncode == EvidenceError.exit_code
    assert "another digest" in refused.stderr
    assert named(server) is None
    done = run(layout, server, "", *options, "--unproven")
    assert done.returncode == 0
    assert "is new" in done.stdout
    assert "proven: no (another digest)" in done.stdout
    assert named(server) == other


@pytest.mark.parametrize("field", ["config_digest", "lock_digest", "roll_runtime"])
def test_evidence_of_another_image_moves_nothing(
    layout: Store, server: str, kept: Path, field: str
) -> None:
    digest = pushed(layout, server, "1")
    prove(kept, digest, **{field: f"sha256:{'1' * 64}"})
    done = run(layout, server, "", "--evidence", str(kept))
    assert done.returncode == EvidenceError.exit_code
    assert f"the evidence is not of the image {digest}" in done.stderr
    assert named(server) is None


def test_tag_that_another_promotion_moves_meanwhile_is_left(
    layout: Store, server: str, kept: Path
) -> None:
    old, new, newer = (pushed(layout, server, name) for name in ("1", "2", "3"))
    prove(kept, old)
    run(layout, server, "", "--evidence", str(kept))

    def somebody_else(request: Any) -> bool:
        if request.command == "GET" and request.path.endswith(new):
            faulty.guard = lambda _: False
            assert run(layout, server, "", "--unproven", "--digest", newer).returncode == 0
        return False

    with (
        proxy(server) as faulty,
        Registry(Repository(faulty.address, NAME), plain_http=True, policy=QUICK) as connected,
    ):
        faulty.guard = somebody_else
        with pytest.raises(RegistryError, match=f"somebody else moved it to {newer}"):
            promote.promote(Candidate(TARGET, new, ""), connected, TARGET)
    assert named(server) == newer


def test_tag_of_a_commit_never_moves(layout: Store, server: str) -> None:
    tag = f"{TARGET}-0123456789ab"
    first, other = pushed(layout, server, "1"), pushed(layout, server, "2")
    for _ in range(2):
        assert run(layout, server, f":{tag}", "--unproven", "--digest", first).returncode == 0
    for command in ("promote", "push"):
        options = ["--unproven", "--digest", other] if command == "promote" else []
        to = f"{server}/{NAME}:{tag}"
        done = Cli(layout.path).run(
            command, "--target", TARGET, "--to", to, "--plain-http", *options
        )
        assert done.returncode == UsageError.exit_code
        assert f"names {first} already, and a tag that ends in a commit never moves" in done.stderr
    assert named(server, tag) == first


def test_push_reports_what_a_tag_named_before(layout: Store, server: str) -> None:
    first = pushed(layout, server, "1")
    to = f"{server}/{NAME}:{TARGET}"
    options = ("--target", TARGET, "--to", to, "--plain-http", "--json")
    assert json.loads(Cli(layout.path).run("push", *options).stdout)["before"] is None
    pushed(layout, server, "2")
    done = Cli(layout.path).run("push", *options)
    assert json.loads(done.stdout)["before"] == first
    assert f"(moved; it named {first})" in done.stderr


def test_image_that_was_never_pushed_leaves_the_tag(layout: Store, server: str, kept: Path) -> None:
    old = pushed(layout, server, "1")
    prove(kept, old)
    run(layout, server, "", "--evidence", str(kept))
    prove(kept, UNKNOWN)
    done = run(layout, server, "", "--evidence", str(kept))
    assert done.returncode == 11
    assert f"{UNKNOWN}: not there" in done.stderr
    assert "push it first" in done.stderr
    assert named(server) == old


def test_manifest_with_other_bytes_gets_no_tag(layout: Store, server: str) -> None:
    digest = pushed(layout, server, "1")
    with (
        proxy(server) as faulty,
        Registry(Repository(faulty.address, NAME), plain_http=True, policy=QUICK) as connected,
    ):
        faulty.guard = answers_otherwise
        with pytest.raises(IntegrityError, match="its bytes have the digest"):
            promote.promote(Candidate(TARGET, digest, ""), connected, TARGET)
    assert named(server) is None


def test_without_evidence_no_image_is_named(kept: Path) -> None:
    with pytest.raises(UsageError, match="names an image"):
        promote.candidate(ROW, None, kept, unproven=True)


@pytest.mark.parametrize("wrong", ["latest", "sha256:12", f"sha512:{'0' * 64}", UNKNOWN.upper()])
def test_malformed_digest(kept: Path, wrong: str) -> None:
    with pytest.raises(UsageError, match="not a digest"):
        promote.candidate(ROW, wrong, kept, unproven=True)


# -- the workflows' login --------------------------------------------------------------------------

HTPASSWD = "user:$2b$04$abcdefghijklmnopqrstuupbtxNs0Xh3WxtcDqV/YqkG.kt1gyOnS\n"
PASSWORD = "s3cr3t-pass"


def log_in(address: str, place: Path, password: str) -> subprocess.CompletedProcess[str]:
    """Run the workflows' login script as a job does; the registry has no TLS."""
    config = place / ".config" / "containers" / "registries.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
    env = {
        **os.environ,
        "HOME": str(place),
        "REPOSITORY": f"{address}/{NAME}",
        "REGISTRY_USER": "user",
        "REGISTRY_PASSWORD": password,
        "RUNNER_TEMP": str(place),
        "GITHUB_ENV": str(place / "github-env"),
    }
    command = ["bash", str(ROOT / ".github" / "login.sh")]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_push_and_promote_use_the_login_of_the_workflows(
    layout: Store, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("skopeo")
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}
    with registry(tmp_path, auth=auth) as address:
        wrong = log_in(address, tmp_path, "wrong")
        assert "invalid username/password" in wrong.stderr
        assert not (tmp_path / "github-env").exists()
        done = log_in(address, tmp_path, PASSWORD)
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        name, _, value = (tmp_path / "github-env").read_text().strip().partition("=")
        assert name == "DOCKER_CONFIG"
        assert Path(value).stat().st_mode & 0o077 == 0
        monkeypatch.setenv(name, value)
        digest = pushed(layout, address, "1")
        prove(kept, digest)
        assert run(layout, address, "", "--evidence", str(kept)).returncode == 0


def test_without_a_password_there_is_no_login(tmp_path: Path) -> None:
    done = log_in("registry.example.com", tmp_path, "")
    assert done.returncode == 0
    assert not (tmp_path / "github-env").exists()
