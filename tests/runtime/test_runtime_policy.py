"""The tables: versions, environment, documentation; and the policy without an engine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from runtime_support import DOCUMENT, PACKAGE, Run

from roll_runtime import env, flashinfer_base, policy, tables, versions

DEFAULT = "FLASHINFER_WORKSPACE_BASE"


def test_versions_loads_by_its_path_alone() -> None:
    """As the builder's check of matrix.yaml does: no package, no other module of it."""
    path = PACKAGE / "src" / "roll_runtime" / "versions.py"
    spec = importlib.util.spec_from_file_location("sglang_versions_alone", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    spec.loader.exec_module(module)
    new = {name for name in set(sys.modules) - before if name.startswith("roll_runtime")}
    assert not new
    assert module.SUPPORTED == versions.SUPPORTED
    assert module.is_supported("0.5.2")


def test_required_versions_are_supported() -> None:
    required = (
        "0.4.6.post1 0.4.6.post4 0.4.6.post5 0.4.10.post2 0.5.2 0.5.4.post2 0.5.5.post3 "
        "0.5.6.post2 0.5.7"
    )
    assert set(required.split()) <= set(versions.SUPPORTED)


def test_table_is_in_order() -> None:
    assert list(versions.SUPPORTED) == sorted(versions.SUPPORTED, key=versions.version_key)
    assert len(set(versions.SUPPORTED)) == len(versions.SUPPORTED)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("0.4.6", "0.4.6.post1"),
        ("0.4.6.post5", "0.4.10.post2"),
        ("0.5.2rc1", "0.5.2"),
        ("0.5.2", "0.5.2.post1"),
        ("0.5.4.post2", "0.5.5"),
        ("0.5.9", "0.5.10rc0"),
        ("0.5.2a1", "0.5.2"),
    ],
)
def test_version_order(older: str, newer: str) -> None:
    assert versions.version_key(older) < versions.version_key(newer)


@pytest.mark.parametrize(
    "text", ["0.5.7+cu128", "0.5.7.dev3", "0.5.7.dev1+g0123abc", "v0.5.7", " 0.5.7 ", "0.5.7"]
)
def test_rebuilds_are_supported(text: str) -> None:
    assert versions.is_supported(text)


@pytest.mark.parametrize(
    "text", ["0.5.7rc1", "0.5.7.post1", "0.5", "", "unknown", "0.5.70", "1.0.5.7", "0.5.7.post0"]
)
def test_others_are_not(text: str) -> None:
    assert not versions.is_supported(text)
    message = versions.unsupported_message(text)
    assert message.startswith(f"Scale aligner version sglang:{text} is not supported. ")
    assert ", ".join(versions.SUPPORTED) in message


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("0.5.3", "0.5.2"), ("0.1", "0.4.6.post1"), ("9", "0.5.23"), ("nonsense", "0.5.23")],
)
def test_message_names_the_nearest_version(text: str, nearest: str) -> None:
    assert f"pip install sglang=={nearest}`" in versions.unsupported_message(text)


def test_at_most_one_rule_for_a_variable(version: str) -> None:
    names = [rule.name for rule in policy.rules_for(version)]
    assert len(names) == len(set(names))
    of_deep_gemm = {"SGL_DG_CACHE_DIR", "SGLANG_DG_CACHE_DIR"}
    of_some = {"TRTLLM_ENABLE_PDL", "SGLANG_CACHE_DIR", "SGLANG_JIT_CACHE_DIR", *of_deep_gemm}
    assert set(policy.NAMES) - set(names) <= of_some


def test_unknown_version_gets_the_newest_rules() -> None:
    assert policy.rules_for("unknown") == policy.rules_for(versions.SUPPORTED[-1])


def test_no_nccl_variable_has_a_fixed_value() -> None:
    for rule in policy.POLICY:
        assert rule.reason
        assert rule.upstream
        if rule.name.startswith("NCCL_"):
            assert rule.kind in (policy.Kind.DERIVE, policy.Kind.UPSTREAM)
            assert not rule.value


def test_derived_value_is_no_wish_at_the_next_start() -> None:
    """An engine with symmetric memory, then one without, in one process (below 0.5.5)."""
    environ: dict[str, str] = {}
    wishes = env.before_upstream("0.5.2", environ)
    environ["NCCL_CUMEM_ENABLE"] = "1"  # what upstream does with enable_symm_mem
    env.after_upstream("0.5.2", wishes, environ)
    assert environ["NCCL_CUMEM_ENABLE"] == "1"
    wishes = env.before_upstream("0.5.2", environ)
    assert "NCCL_CUMEM_ENABLE" not in environ
    env.after_upstream("0.5.2", wishes, environ)


def test_own_allocator_settings_are_not_lost_silently(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}
    env.before_upstream("0.5.7", environ)
    assert not environ.get("PYTORCH_CUDA_ALLOC_CONF")
    assert "set ROLL_RUNTIME_SET_PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:64" in caplog.text
    caplog.clear()
    env.before_upstream("0.5.7", {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"})
    assert not caplog.text


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def warm(base: Path, *middle: str) -> str:
    """Put one compiled kernel where FlashInfer looks for it."""
    folder = base.joinpath(".cache", "flashinfer", *middle, "cached_ops", "norm")
    folder.mkdir(parents=True)
    (folder / "norm.so").touch()
    return str(base)


WORKER = {"WORKER_NAME": "actor_infer-0"}


def test_cold_cache_is_per_worker(home: Path) -> None:
    assert flashinfer_base.choose(dict(WORKER)) == str(home / ".cache" / "actor_infer-0")
    other = {"WORKER_NAME": "actor_infer-1"}
    assert flashinfer_base.choose(other) != flashinfer_base.choose(dict(WORKER))


def test_without_worker_name_flashinfer_decides(home: Path) -> None:
    assert flashinfer_base.choose({}) is None


def test_workers_directories_are_the_images(home: Path) -> None:
    """Cold: each worker's own; warm, or without a worker's name: the shared one."""
    shared = home / "caches" / "image"
    assert flashinfer_base.choose({}, shared=shared) == str(shared / "flashinfer")
    own = flashinfer_base.choose({"WORKER_NAME": "a/b-0"}, shared=shared)
    assert own == str(shared / "flashinfer-a_b-0")
    again = {**WORKER, DEFAULT: str(shared / "flashinfer-actor_infer-0")}
    warm(shared / "flashinfer", "90a")
    assert flashinfer_base.choose(again, shared=shared) == str(shared / "flashinfer")
    warm(home, "90a")
    assert flashinfer_base.choose(dict(WORKER), shared=shared) == str(shared / "flashinfer")


def test_directory_of_other_images_is_not_these_workers(home: Path) -> None:
    """SGLang's default one, which any image of 0.5.18 and later may have left warm in a HOME."""
    shared = home / "caches" / "image"
    warm(home / ".cache" / "sglang", "0.6.15", "90a")
    own = str(shared / "flashinfer-actor_infer-0")
    assert flashinfer_base.choose(dict(WORKER), shared=shared) == own
    chosen = {**WORKER, "SGLANG_CACHE_DIR": str(home / ".cache" / "sglang")}
    assert flashinfer_base.choose(chosen, shared=shared) == chosen["SGLANG_CACHE_DIR"]


@pytest.mark.parametrize(
    ("arch", "gpus", "is_warm"),
    [
        ("90a", [(9, 0)], True),
        ("90", [(9, 0)], True),
        ("80_90", [(9, 0)], True),
        ("90a", [(8, 0)], False),
        ("100f", [(10, 0)], True),
        ("100f", [(0, 1)], False),
        ("90a", [], False),
        ("90a", None, True),
    ],
)
def test_cache_is_warm_for_the_gpus_that_it_was_compiled_for(
    home: Path, arch: str, gpus: list[tuple[int, int]] | None, is_warm: bool
) -> None:
    warm(home, "0.6.15", arch)
    assert flashinfer_base.is_warm(str(home), gpus) is is_warm


@pytest.mark.parametrize("middle", [("90a",), ("0.3.1", "90a")])
def test_warm_cache_is_shared(home: Path, middle: tuple[str, ...]) -> None:
    warm(home, *middle)
    assert flashinfer_base.choose(dict(WORKER)) == str(home)


def test_empty_cache_is_not_warm(home: Path) -> None:
    (home / ".cache" / "flashinfer" / "90a" / "cached_ops").mkdir(parents=True)
    assert flashinfer_base.choose(dict(WORKER)) == str(home / ".cache" / "actor_infer-0")


def test_rolls_default_is_no_wish(home: Path) -> None:
    """ROLL assigns its own default before each engine; a warm cache is used all the same."""
    environ = {**WORKER, DEFAULT: str(home / ".cache" / "actor_infer-0")}
    assert flashinfer_base.choose(environ) == environ[DEFAULT]
    warm(home, "90a")
    assert flashinfer_base.choose(environ) == str(home)


def test_sglangs_default_is_no_wish(home: Path) -> None:
    environ = {**WORKER, DEFAULT: str(home / ".cache" / "sglang")}
    assert flashinfer_base.choose(environ) == str(home / ".cache" / "actor_infer-0")
    warm(home / ".cache" / "sglang", "0.6.17", "90a")
    assert flashinfer_base.choose(environ) == str(home / ".cache" / "sglang")
    assert flashinfer_base.choose({DEFAULT: environ[DEFAULT]}) == environ[DEFAULT]


def test_sglangs_default_is_no_wish_once_its_directory_is_ours(home: Path) -> None:
    """`import sglang` sets FlashInfer's from 0.5.18 on, and then SGLANG_CACHE_DIR is set here."""
    shared = home / "caches" / "image"
    environ = {**WORKER, DEFAULT: str(home / ".cache" / "sglang")}
    environ["SGLANG_CACHE_DIR"] = str(shared / "sglang")
    assert flashinfer_base.choose(environ, shared=shared) == str(
        shared / "flashinfer-actor_infer-0"
    )


def test_operators_value_is_kept(home: Path) -> None:
    warm(home, "90a")
    assert flashinfer_base.choose({**WORKER, DEFAULT: "/opt/cache"}) == "/opt/cache"


def test_operators_value_survives_rolls_assignment(home: Path) -> None:
    environ = {**WORKER, DEFAULT: str(home / ".cache" / "actor_infer-0")}
    assert flashinfer_base.choose(environ, initial="/opt/cache") == "/opt/cache"


def test_unwritable_warm_cache_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warm(home, "90a")
    # Tests may run as root, for whom everything is writable.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert flashinfer_base.choose(dict(WORKER)) == str(home / ".cache" / "actor_infer-0")
    assert "not writable for uid" in caplog.text


def test_image_value_survives_roll_in_an_engine(
    run_engine: Run, version: str, tmp_path: Path
) -> None:
    """The whole way: the image's ENV at interpreter start, ROLL's assignment, then the engine."""
    (tmp_path / "home").mkdir()
    environ = {"HOME": str(tmp_path / "home"), "WORKER_NAME": "actor_infer-0"}
    assigned = str(tmp_path / "home" / ".cache" / "actor_infer-0")
    result = run_engine(version, {**environ, DEFAULT: "/opt/warm"}, assign={DEFAULT: assigned})
    assert result["starts"][0]["env"][DEFAULT] == "/opt/warm"
    result = run_engine(version, environ, assign={DEFAULT: assigned})
    own = Path(result["starts"][0]["env"][DEFAULT])
    assert own.name == "flashinfer-actor_infer-0"
    warm(own.with_name("flashinfer"), "90a")
    result = run_engine(version, environ, assign={DEFAULT: assigned})
    assert result["starts"][0]["env"][DEFAULT] == str(own.with_name("flashinfer"))


def test_documented_defaults_are_what_children_see(run_engine: Run, version: str) -> None:
    result = run_engine(version)
    assert result["error"] is None
    kinds = {rule.name: rule.kind for rule in policy.rules_for(version)}
    for name, value in tables.expected(version).items():
        if kinds.get(name) not in (policy.Kind.WORKSPACE, policy.Kind.CACHE):
            assert result["starts"][0]["env"].get(name, "-") == value, name


def test_documented_upstream_values(run_engine: Run, version: str) -> None:
    """What the table says that SGLang itself does, executed without the patch."""
    off = {"ROLL_RUNTIME_AUTOLOAD": "0"}
    result = run_engine(version, {**off, "CUDA_DEVICE_MAX_CONNECTIONS": "5"}, thread="main")
    for rule in policy.rules_for(version):
        if rule.name == "CUDA_DEVICE_MAX_CONNECTIONS":
            assert f"sets {result['env'][rule.name]}, always" == rule.upstream
        if rule.name == "CUDA_MODULE_LOADING":
            sets = result["env"].get(rule.name) == "AUTO"
            assert rule.upstream.startswith("sets AUTO" if sets else "does not set")
        if rule.name == "TRTLLM_ENABLE_PDL":
            assert result["env"][rule.name] == "1"


def test_documentation_is_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    renewed = tables.renew(text)
    assert renewed == text, f"renew it: python -m roll_runtime.tables {DOCUMENT.name}"
    for name in tables.TABLES:
        assert f"<!-- table: {name} -->" in text


def test_documentation_names_every_setting() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    source = "".join(
        path.read_text(encoding="utf-8") for path in (PACKAGE / "src" / "roll_runtime").glob("*.py")
    )
    for name in ("AUTOLOAD", "ALLOW_UNTESTED", "ROLL_PATCH", "MEM_FRACTION_STATIC", "CACHE_DIR"):
        assert f"ROLL_RUNTIME_{name}" in source
        assert f"ROLL_RUNTIME_{name}" in text
