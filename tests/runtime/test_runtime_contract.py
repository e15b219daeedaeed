"""The static contract: every supported wheel passes, and every breach is found."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import runtime_wheels
from runtime_support import PACKAGE, Trees, clean_environ

from roll_runtime import contract, contract_shared_prompts, versions


def test_every_supported_wheel_passes(version: str) -> None:
    report = contract.check(runtime_wheels.fetch(runtime_wheels.read_lock()[version]))
    assert report.version == version
    assert report.missing == []
    guarded = "upstream guards its signal handlers itself" in report.notes
    assert guarded == (versions.version_key(version) >= versions.version_key("0.5.10"))


def test_lock_lines_are_what_was_fetched(version: str) -> None:
    wheel = runtime_wheels.read_lock()[version]
    assert wheel.name.startswith(f"sglang-{version}-")
    assert runtime_wheels.fetch(wheel).stat().st_size == wheel.size


#: A change of SGLang's source, and what the report then says.
BREACHES = {
    "policy hook gone": (
        contract.ENGINE,
        r"def _set_envs_and_config\(",
        "def _set_environment(",
        "no module function _set_envs_and_config",
    ),
    "policy hook takes more": (
        contract.ENGINE,
        r"def _set_envs_and_config\(server_args: ServerArgs\)",
        "def _set_envs_and_config(server_args, rank)",
        "_set_envs_and_config takes ['server_args', 'rank']",
    ),
    "policy hook not called": (
        contract.ENGINE,
        r"\n( +)_set_envs_and_config\(server_args\)",
        r"\n\1helpers._set_envs_and_config(server_args)",
        "0 times by its bare name",
    ),
    "signal under another name": (
        contract.ENGINE,
        r"\nimport signal\n",
        "\nimport signal as signals\n",
        "no plain `import signal`",
    ),
    "another way to register": (
        contract.ENGINE,
        r"signal\.signal\(signal\.SIGQUIT",
        "signals.signal(signal.SIGQUIT",
        "registers a signal as signals.signal",
    ),
    "loop handler in the engine": (
        contract.ENGINE,
        r"\n( +)_set_envs_and_config\(server_args\)",
        r"\n\1_set_envs_and_config(server_args); loop.add_signal_handler(1, print)",
        "add_signal_handler off the main thread",
    ),
    "engine class gone": (contract.ENGINE, r"class Engine\(", "class Motor(", "no class Engine"),
    "unguarded handler in the tokenizer": (
        contract.TOKENIZER,
        r"if threading\.current_thread\(\) is threading\.main_thread\(\):",
        "if True:",
        "add_signal_handler off the main thread",
    ),
    "negated guard in the tokenizer": (
        contract.TOKENIZER,
        r"threading\.current_thread\(\) is threading\.main_thread\(\)",
        "threading.current_thread() is not threading.main_thread()",
        "add_signal_handler off the main thread",
    ),
    "scheduler's log": (
        contract.SCHEDULER,
        "Scheduler hit an exception: ",
        "Scheduler failed: ",
        "does not log",
    ),
    "release under another name": (
        "sglang/srt/managers/scheduler_update_weights_mixin.py",
        "def release_memory_occupation",
        "def release_memory",
        "no release_memory_occupation in Scheduler or SchedulerWeightUpdaterManager",
    ),
    "resume takes more": (
        "sglang/srt/managers/scheduler_update_weights_mixin.py",
        r"def resume_memory_occupation\(self, ",
        "def resume_memory_occupation(self, rank, ",
        "resume_memory_occupation takes ['self', 'rank', 'recv_req']",
    ),
    "resume's answer": (
        contract.IO_STRUCT,
        "class ResumeMemoryOccupationReqOutput",
        "class Resumed",
        "no class ResumeMemoryOccupationReqOutput",
    ),
    "handlers not registered": (
        contract.SCHEDULER,
        r"self\.resume_memory_occupation",
        "resume_memory_occupation",
        "resume_memory_occupation is not looked up as an attribute",
    ),
    "memory tags": (
        "sglang/srt/constants.py",
        "GPU_MEMORY_TYPE_",
        "MEMORY_KIND_",
        "no GPU_MEMORY_TYPE_… for the tags of a release",
    ),
    "scheduler's intake": (
        contract.SCHEDULER,
        r"def process_input_requests\(",
        "def process_requests(",
        "no Scheduler.process_input_requests(self, requests)",
    ),
    "flush's record": (
        contract.IO_STRUCT,
        "class FlushCacheReqInput",
        "class Flush",
        "no class FlushCacheReqInput",
    ),
    "argument of ROLL gone": (
        contract.SERVER_ARGS,
        r"\n    mem_fraction_static: ",
        "\n    memory_fraction: ",
        "ROLL sets mem_fraction_static",
    ),
    "batches without a prompt's answers join": (
        contract.SCHEDULER,
        r"self\.last_batch\.is_prefill_only",
        "self.last_batch.is_done",
        "last_batch.is_prefill_only is not read: expected from 0.5.2 until 0.5.10",
    ),
    "batch decides about log probabilities": (
        contract_shared_prompts.SCHEDULE_BATCH,
        r"\n( +)def prepare_for_extend\(self\):",
        r"\n\1def prepare_for_extend(self, only=self.is_prefill_only):",
        "in prepare_for_extend self.is_prefill_only is read: expected from 0.5.4 until 0.5.7",
    ),
    "batches prepared elsewhere": (
        contract_shared_prompts.SCHEDULE_BATCH,
        r"def prepare_for_extend\(",
        "def prepare_prompts(",
        "no ScheduleBatch with is_prefill_only, model_config and prepare_for_extend",
    ),
    "model generates elsewhere": (
        contract_shared_prompts.MODEL_CONFIG,
        r"self\.is_generation = ",
        "self.generates = ",
        "is_generation is not set",
    ),
    "scores of several items": (
        contract.SERVER_ARGS,
        r"(\n    )mem_fraction_static: ",
        r"\1multi_item_scoring_delimiter: int = 0\1mem_fraction_static: ",
        "get_global_server_args is not imported, and there is multi_item_scoring_delimiter",
    ),
    "FP8 config": (contract.FP8, "def from_config", "def from_dict", "no Fp8Config.from_config"),
    "FP8 linear": (
        contract.FP8,
        "input_size_per_partition: int,",
        "inputs: int,",
        "Fp8LinearMethod.create_weights takes",
    ),
    "FP8 parameters": (
        contract.PARAMETER,
        "class BlockQuantScaleParameter",
        "class BlockScale",
        "no class BlockQuantScaleParameter",
    ),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_every_breach_is_found(sglang_tree: Trees, tmp_path: Path, breach: str) -> None:
    path, pattern, replacement, fault = BREACHES[breach]
    tree = tmp_path / "tree"
    shutil.copytree(sglang_tree("0.5.2"), tree)
    file = tree / path
    text, count = re.subn(pattern, replacement, file.read_text())
    assert count, "the breach no longer changes anything"
    file.write_text(text)
    report = contract.Checker(contract.TreeSource(tree), "0.5.2").run()
    assert any(fault in line for line in report.missing), report.missing


def test_missing_files_are_named_once(tmp_path: Path) -> None:
    report = contract.check(tmp_path)
    assert report.version == "unknown"
    assert f"{contract.ENGINE}: there is no such file" in report.missing
    assert len(set(report.missing)) == len(report.missing)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roll_runtime", *arguments],
        env={**clean_environ(), "PYTHONPATH": str(PACKAGE / "src")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_command_line(tmp_path: Path) -> None:
    lock = runtime_wheels.read_lock()
    wheel = str(runtime_wheels.fetch(lock["0.5.2"]))
    done = command("contract", wheel)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sglang 0.5.2: passes" in done.stdout
    stranger = tmp_path / "sglang-9.9.9-py3-none-any.whl"
    shutil.copy(runtime_wheels.fetch(lock["0.5.10.post1"]), stranger)
    done = command("contract", str(stranger))
    assert "sglang 9.9.9 (not in the supported table): passes" in done.stdout
    done = command("contract", str(tmp_path), wheel)
    assert done.returncode == 1
    assert "FAILS" in done.stdout
    assert f"missing: {contract.ENGINE}" in done.stdout
    assert "sglang 0.5.2: passes" in done.stdout
    done = command("contract", str(tmp_path / "nothing.whl"))
    assert done.returncode == 1
    assert "no such wheel or directory" in done.stdout
