"""SGLang's real engine.py, executed: every supported version, on and off the main thread."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import runtime_wheels
from runtime_support import Run, Trees

from roll_runtime import versions

SCHEDULER = "sglang.srt.managers.scheduler"
CONTROLLER = "sglang.srt.managers.data_parallel_controller"

#: The last supported version whose signal handlers upstream does not guard itself.
LAST_UNGUARDED = "0.5.9"


def before(version: str, other: str) -> bool:
    return versions.version_key(version) < versions.version_key(other)


def child_env(result: dict[str, Any]) -> dict[str, str]:
    """Return the environment that the first child starts with; the engine must have started."""
    assert result["error"] is None, result["trace"]
    env: dict[str, str] = result["starts"][0]["env"]
    return env


def test_lock_has_every_supported_version() -> None:
    assert tuple(runtime_wheels.read_lock()) == versions.SUPPORTED


def test_unpatched_off_main_thread(run_engine: Run, version: str) -> None:
    """Upstream alone: what the patch is for. Keeps the tests below honest."""
    result = run_engine(version, {"ROLL_RUNTIME_AUTOLOAD": "0"})
    assert not result["patched"]
    if versions.version_key(version) <= versions.version_key(LAST_UNGUARDED):
        assert result["type"] == "ValueError"
        assert "signal only works in main thread" in result["error"]
    else:
        assert child_env(result)["CUDA_DEVICE_MAX_CONNECTIONS"] == "8"


def test_starts_off_main_thread(run_engine: Run, version: str) -> None:
    result = run_engine(version)
    env = child_env(result)
    assert result["starts"][0]["target"] == "run_scheduler_process"
    assert result["starts"][0]["home"] == SCHEDULER
    assert env["CUDA_DEVICE_MAX_CONNECTIONS"] == "4"
    assert env["CUDA_MODULE_LOADING"] == "AUTO"
    assert env["SGLANG_BLOCK_NONZERO_RANK_CHILDREN"] == "0"
    assert env.get("TRTLLM_ENABLE_PDL") == (None if before(version, "0.5.2") else "1")
    assert result["sigquit"] == "default"


def test_starts_with_data_parallel_controller(run_engine: Run, version: str) -> None:
    result = run_engine(version, server_args={"dp_size": 2, "num_dp_ranks": 2})
    child_env(result)
    assert result["starts"][0]["target"] == "run_data_parallel_controller_process"
    assert result["starts"][0]["home"] == CONTROLLER


def test_node_after_the_first_starts(run_engine: Run, version: str) -> None:
    """With SGLANG_BLOCK_NONZERO_RANK_CHILDREN=0 the engine returns and its scheduler runs on."""
    arguments = {"nnodes": 2, "node_rank": 1, "tp_size": 2}
    result = run_engine(version, server_args=arguments)
    child_env(result)
    assert [start["target"] for start in result["starts"]] == ["run_scheduler_process"]


def test_main_thread_keeps_signal_cleanup(run_engine: Run, version: str) -> None:
    result = run_engine(version, thread="main")
    child_env(result)
    assert result["sigquit"] in ("sigquit_handler", "launch_phase_sigquit_handler")


def test_upstream_work_is_kept(run_engine: Run, version: str) -> None:
    arguments = {"attention_backend": "flashinfer", "enable_metrics": True, "tp_size": 2}
    result = run_engine(version, server_args=arguments)
    child_env(result)
    wanted = {
        "assert_pkg_version",
        "set_ulimit",
        "set_prometheus_multiproc_dir",
        "set_start_method:spawn",
    }
    if before(version, "0.4.10"):
        wanted.add("maybe_set_triton_cache_manager")
    assert wanted <= set(result["calls"])
    # Twice: FlashInfer and the kernel package.
    assert result["calls"].count("assert_pkg_version") == 2


USER = {
    "CUDA_DEVICE_MAX_CONNECTIONS": "8",
    "CUDA_MODULE_LOADING": "LAZY",
    "SGLANG_BLOCK_NONZERO_RANK_CHILDREN": "1",
    "FLASHINFER_WORKSPACE_BASE": "/somewhere/of/mine",
}


def test_user_values_win(run_engine: Run, version: str) -> None:
    pdl = {} if before(version, "0.5.2") else {"TRTLLM_ENABLE_PDL": "0"}
    env = child_env(run_engine(version, {**USER, **pdl}))
    for name, value in {**USER, **pdl}.items():
        assert env[name] == value


def test_image_default_is_a_value_like_any_other(run_engine: Run, version: str) -> None:
    """The image's ENV has 4; `docker run -e …=16` replaces it before the engine sees it."""
    for value in ("4", "16"):
        env = child_env(run_engine(version, {"CUDA_DEVICE_MAX_CONNECTIONS": value}))
        assert env["CUDA_DEVICE_MAX_CONNECTIONS"] == value


def test_overrides_win_over_all(run_engine: Run, version: str) -> None:
    wishes = {
        "CUDA_DEVICE_MAX_CONNECTIONS": "2",
        "CUDA_MODULE_LOADING": "EAGER",
        "NCCL_CUMEM_ENABLE": "0",
        "NCCL_NVLS_ENABLE": "2",
        "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:512",
        "PYTORCH_ALLOC_CONF": "",
        "FLASHINFER_WORKSPACE_BASE": "/override",
        "SGLANG_BLOCK_NONZERO_RANK_CHILDREN": "1",
    }
    given = {f"ROLL_RUNTIME_SET_{name}": value for name, value in wishes.items()}
    present = {**USER, "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    arguments = {"enable_symm_mem": True, "enable_nccl_nvls": True}
    env = child_env(run_engine(version, {**present, **given}, server_args=arguments))
    for name, value in wishes.items():
        assert env.get(name, "") == value, name


@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
def test_allocator_settings_do_not_reach_children(run_engine: Run, version: str, name: str) -> None:
    result = run_engine(version, {name: "expandable_segments:True"})
    assert name not in child_env(result)
    assert name not in result["env"]


#: NCCL_CUMEM_ENABLE and NCCL_NVLS_ENABLE after the start ("-": unset), for the arguments none,
#: enable_symm_mem, enable_nccl_nvls; by version range and by what was preset.
NCCL: dict[tuple[str, str], dict[str, str]] = {
    ("0.4.6.post1", "0.4.10"): {"": "00 00 01", "0": "00 00 01", "1": "11 11 11"},
    ("0.4.10", "0.5.5"): {"": "00 1- 01", "0": "00 1- 01", "1": "11 11 11"},
    ("0.5.5", "9"): {"": "00 11 01", "0": "00 11 01", "1": "11 11 11"},
}


@pytest.mark.parametrize("preset", ["", "0", "1"])
def test_nccl_follows_the_arguments(run_engine: Run, version: str, preset: str) -> None:
    (expected,) = (
        by_preset[preset]
        for (since, until), by_preset in NCCL.items()
        if versions.in_range(version, since, until)
    )
    given = {"NCCL_CUMEM_ENABLE": preset, "NCCL_NVLS_ENABLE": preset} if preset else {}
    found = []
    for argument in (None, "enable_symm_mem", "enable_nccl_nvls"):
        arguments = {argument: True} if argument else {}
        env = child_env(run_engine(version, given, server_args=arguments))
        found.append(env.get("NCCL_CUMEM_ENABLE", "-") + env.get("NCCL_NVLS_ENABLE", "-"))
    assert " ".join(found) == expected


def test_second_engine_in_a_process(run_engine: Run, version: str) -> None:
    result = run_engine(version, {"CUDA_DEVICE_MAX_CONNECTIONS": "8"}, launches=2)
    child_env(result)
    assert {start["env"]["CUDA_DEVICE_MAX_CONNECTIONS"] for start in result["starts"]} == {"8"}


def with_version(tree: Path, target: Path, text: str) -> Path:
    """Copy a tree and let it call itself another version."""
    shutil.copytree(tree, target)
    (target / "sglang" / "_version.py").unlink(missing_ok=True)
    (target / "sglang" / "version.py").write_text(f"__version__ = {text!r}\n")
    return target


@pytest.mark.parametrize("unsupported", ["9.9.9", "0.5.3", "0.5.2rc1", "0.4.6", "0.5.4.post1"])
def test_unsupported_fails_at_import(
    run_engine: Run, sglang_tree: Trees, tmp_path: Path, unsupported: str
) -> None:
    tree = with_version(sglang_tree("0.5.2"), tmp_path / "tree", unsupported)
    result = run_engine(unsupported, tree=tree, stop_after_import=True)
    assert result["type"] == "NotImplementedError"
    assert result["error"].startswith(
        f"Scale aligner version sglang:{unsupported} is not supported. "
    )
    for supported in versions.SUPPORTED:
        assert supported in result["error"]
    assert not result["imported"]


def test_unsupported_can_be_allowed(run_engine: Run, sglang_tree: Trees, tmp_path: Path) -> None:
    tree = with_version(sglang_tree("0.5.2"), tmp_path / "tree", "9.9.9")
    result = run_engine("9.9.9", {"ROLL_RUNTIME_ALLOW_UNTESTED": "1"}, tree=tree)
    assert child_env(result)["CUDA_DEVICE_MAX_CONNECTIONS"] == "4"
    assert "not among the tested versions" in result["log"]


def test_kill_switch_lets_unsupported_import(
    run_engine: Run, sglang_tree: Trees, tmp_path: Path
) -> None:
    tree = with_version(sglang_tree("0.5.2"), tmp_path / "tree", "9.9.9")
    result = run_engine("9.9.9", {"ROLL_RUNTIME_AUTOLOAD": "0"}, tree=tree, stop_after_import=True)
    assert result["error"] is None
    assert not result["patched"]


@pytest.mark.parametrize("text", ["0.5.2+cu128", "0.5.2.dev1+g0123abc", "v0.5.2"])
def test_rebuilds_of_a_supported_version(
    run_engine: Run, sglang_tree: Trees, tmp_path: Path, text: str
) -> None:
    tree = with_version(sglang_tree("0.5.2"), tmp_path / "tree", text)
    assert child_env(run_engine(text, tree=tree))["CUDA_DEVICE_MAX_CONNECTIONS"] == "4"


@pytest.mark.parametrize("moment", ["before", "after", "twice"])
def test_apply_without_the_hook(run_engine: Run, version: str, moment: str) -> None:
    result = run_engine(version, {"ROLL_RUNTIME_AUTOLOAD": "0"}, apply=moment)
    assert child_env(result)["CUDA_DEVICE_MAX_CONNECTIONS"] == "4"
    assert result["patched"]


def test_apply_after_the_hook_changes_nothing(run_engine: Run, version: str) -> None:
    result = run_engine(version, apply="twice")
    child_env(result)
    assert result["wrapped"] == 1


#: Does what ROLL's patch does (roll/third_party/sglang/v052_patch/engine.py at 8eb27cc2): at each
#: launch it writes its own functions into the engine's module, then calls the launch before.
ROLL_LIKE = """
import os
import sys

import sglang.srt.entrypoints.engine as engine_module


def _set_envs_and_config(server_args):
    os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "4"
    os.environ["NCCL_CUMEM_ENABLE"] = str(int(server_args.enable_symm_mem))
    os.environ["SEEN_ROLL"] = "1"


def run_scheduler_process(*args, **kwargs):
    raise AssertionError


def run_data_parallel_controller_process(*args, **kwargs):
    raise AssertionError


class _roll_launch_subprocesses(object):
    def __init__(self, _launch_subprocesses):
        self._launch_subprocesses = _launch_subprocesses

    def __call__(self, *args, **kwargs):
        names = sys.modules["sglang.srt.entrypoints.engine"].__dict__
        names["_set_envs_and_config"] = _set_envs_and_config
        names["run_scheduler_process"] = run_scheduler_process
        names["run_data_parallel_controller_process"] = run_data_parallel_controller_process
        return self._launch_subprocesses(*args, **kwargs)


engine_module._launch_subprocesses = _roll_launch_subprocesses(engine_module._launch_subprocesses)
"""


def roll_patch(folder: Path, version: str) -> Path:
    """Return ROLL's own patch from $ROLL_SOURCE, else one that does the same things."""
    source = os.environ.get("ROLL_SOURCE")
    if source:
        name = {"0.4.6": "v046post4", "0.4.10": "v0410post2", "0.5.2": "v052"}.get(
            version.partition(".post")[0], "v054"
        )
        return Path(source) / "roll" / "third_party" / "sglang" / f"{name}_patch" / "engine.py"
    path = folder / "roll" / "third_party" / "sglang" / "some_patch" / "engine.py"
    path.parent.mkdir(parents=True)
    path.write_text(ROLL_LIKE)
    return path


@pytest.mark.parametrize("thread", ["main", "other"])
@pytest.mark.parametrize(
    ("autoload", "apply", "moment"),
    [
        ("1", "", "after"),
        ("0", "after", "after"),
        ("0", "after", "before"),
        ("1", "twice", "after"),
    ],
)
def test_with_rolls_own_patch(
    run_engine: Run,
    tmp_path: Path,
    roll_version: str,
    autoload: str,
    apply: str,
    moment: str,
    thread: str,
) -> None:
    """In either order ours is in force, upstream's own functions run, and nothing recurses."""
    result = run_engine(
        roll_version,
        {"ROLL_RUNTIME_AUTOLOAD": autoload, "CUDA_DEVICE_MAX_CONNECTIONS": "8"},
        apply=apply,
        roll=moment,
        roll_patch=str(roll_patch(tmp_path, roll_version)),
        thread=thread,
        launches=2,
    )
    env = child_env(result)
    assert env["CUDA_DEVICE_MAX_CONNECTIONS"] == "8"
    assert "SEEN_ROLL" not in env
    assert {start["home"] for start in result["starts"]} == {
        SCHEDULER,
        "sglang.srt.managers.detokenizer_manager",
    }
    assert "set_start_method:spawn" in result["calls"]
    assert result["calls"].count("set_ulimit") == 2


def test_rolls_own_patch_can_be_kept(run_engine: Run, tmp_path: Path) -> None:
    env = {"ROLL_RUNTIME_ROLL_PATCH": "keep", "CUDA_DEVICE_MAX_CONNECTIONS": "8"}
    path = roll_patch(tmp_path, "0.5.2")
    result = run_engine("0.5.2", env, roll="after", roll_patch=str(path))
    assert child_env(result)["CUDA_DEVICE_MAX_CONNECTIONS"] == "4"
    assert result["starts"][0]["home"] == "roll_engine_patch"


def test_false_arguments_of_roll_are_dropped(run_engine: Run, version: str) -> None:
    arguments = {
        "model_path": "/model",
        "enable_return_routed_experts": False,
        "grpc_mode": None,
        "mem_fraction_static": 0.5,
    }
    result = run_engine(version, kwargs=arguments)
    child_env(result)
    assert result["mem_fraction_static"] == 0.5


def test_true_argument_is_refused_by_name(run_engine: Run, version: str) -> None:
    arguments = {"model_path": "/model", "enable_return_routed_experts": True}
    result = run_engine(version, kwargs=arguments)
    if before(version, "0.5.7"):
        assert result["type"] == "TypeError"
        assert "enable_return_routed_experts=True (needs SGLang 0.5.7" in result["error"]
        assert "router_replay.mode: disable" in result["error"]
    else:
        child_env(result)


def test_unknown_argument_is_refused_by_name(run_engine: Run, version: str) -> None:
    result = run_engine(version, kwargs={"model_path": "/model", "mem_fraction_statc": 0.5})
    assert result["type"] == "TypeError"
    assert "mem_fraction_statc=0.5 (did you mean mem_fraction_static?)" in result["error"]


@pytest.mark.parametrize(
    ("env", "expected"), [("", 0.7), ("0.55", 0.55), ("sglang", None), ("2", "ValueError")]
)
def test_mem_fraction_default(
    run_engine: Run, version: str, env: str, expected: float | str | None
) -> None:
    result = run_engine(
        version, {"ROLL_RUNTIME_MEM_FRACTION_STATIC": env}, kwargs={"model_path": "/model"}
    )
    if isinstance(expected, str):
        assert result["type"] == expected
    else:
        child_env(result)
        assert result["mem_fraction_static"] == expected


def test_infer_batch_size_is_ignored_with_a_reason(run_engine: Run, version: str) -> None:
    result = run_engine(version, kwargs={"model_path": "/model", "infer_batch_size": 64})
    child_env(result)
    assert "infer_batch_size=64 is ignored: SGLang batches continuously" in result["log"]
