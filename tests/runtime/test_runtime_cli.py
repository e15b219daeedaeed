"""``doctor`` and ``smoke``: what they say without a GPU, and that ``smoke`` never hangs."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from roll_runtime.doctor import Status
from runtime_support import clean_environ

from roll_runtime import doctor, gpu, smoke


def run(python: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), "-m", "roll_runtime", *arguments],
        env={**clean_environ(), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_doctor_json(python: Path) -> None:
    done = run(python, "doctor", "--json")
    report = json.loads(done.stdout)
    checks = {check["name"]: check for check in report["checks"]}
    assert done.returncode == 1
    assert not report["ok"]
    assert checks["sglang"]["status"] == "fail"
    assert checks["autoload"]["status"] == "ok"
    assert checks["CUDA_DEVICE_MAX_CONNECTIONS"]["found"] == "unset -> 4"
    for check in report["checks"]:
        assert (check["status"] == "ok") or check["remedy"] or check["name"] == "driver"


def test_doctor_text_names_the_remedy(python: Path) -> None:
    done = run(python, "doctor", ROLL_RUNTIME_AUTOLOAD="0", NCCL_CUMEM_ENABLE="1")
    assert done.returncode == 1
    assert "fail  autoload: off (ROLL_RUNTIME_AUTOLOAD=0)" in done.stdout
    assert "-> Unset ROLL_RUNTIME_AUTOLOAD" in done.stdout
    assert "warn  NCCL_CUMEM_ENABLE: fixed to 1" in done.stdout


@pytest.mark.parametrize(
    ("driver", "image", "status", "text"),
    [
        ((12, 8), (12, 8), Status.OK, ""),
        ((13, 0), (12, 8), Status.OK, ""),
        ((12, 2), (12, 8), Status.WARN, "minor-version compatibility"),
        ((12, 8), (13, 0), Status.FAIL, "580.65.06 or later, or use an image for CUDA 12"),
        ((11, 4), (12, 4), Status.FAIL, "525.60.13"),
        ((12, 8), None, Status.WARN, "not known"),
    ],
)
def test_driver_against_image(
    driver: tuple[int, int], image: tuple[int, int] | None, status: Status, text: str
) -> None:
    check = doctor.driver_check(driver, image)
    assert check.status is status
    assert text in check.found + check.remedy


def gpu_checks(answer: dict[str, Any]) -> list[doctor.Check]:
    return list(doctor.check_gpu(lambda: answer))


@pytest.mark.parametrize(
    ("capability", "archs", "runs"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_80", "sm_90"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((9, 0), ["sm_90a"], True),
        ((12, 0), ["sm_100", "sm_90a"], False),
        ((12, 0), ["sm_120"], True),
        ((10, 3), ["sm_100"], True),
        ((10, 3), ["sm_100a"], False),
        ((9, 0), [], False),
        ((9, 0), ["gfx942"], False),
    ],
)
def test_architectures(capability: tuple[int, int], archs: list[str], runs: bool) -> None:
    assert doctor.runs_on(capability, archs) == runs


def test_gpu_without_code_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "torch_cuda", lambda: (12, 8))
    monkeypatch.setattr(doctor, "torch_archs", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(doctor, "_nvcc_release", lambda: (12, 4))
    device = {"name": "B200", "capability": [10, 0], "memory_gib": 180.0}
    checks = {check.name: check for check in gpu_checks({"cuda": [13, 0], "devices": [device]})}
    assert checks["torch architectures"].status is Status.FAIL
    assert "none runs on sm_100" in checks["torch architectures"].found
    assert "need nvcc 12.8 or later" in checks["nvcc architectures"].remedy


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "torch_cuda", lambda: (12, 6))
    monkeypatch.setattr(doctor, "torch_archs", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(doctor, "_nvcc_release", lambda: (12, 4))

    def answer(*capability: int) -> dict[str, Any]:
        device = {"name": "GPU", "capability": list(capability), "memory_gib": 80.0}
        return {"cuda": [12, 8], "devices": [device]}

    assert {check.status for check in gpu_checks(answer(9, 0))} == {Status.OK}
    assert gpu_checks(answer(7, 5))[1].status is Status.FAIL
    assert "Blackwell" in gpu_checks(answer(10, 0))[1].remedy
    assert gpu_checks({"cuda": [12, 8], "devices": []})[1].found == "none visible"
    (check,) = gpu_checks({"error": "libcuda.so.1 cannot be loaded"})
    assert check.status is Status.FAIL
    assert "--gpus all" in check.remedy


def test_torch_cuda_is_read_without_importing_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "torch"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemError\n")
    monkeypatch.setattr(doctor, "_package_folder", lambda name: folder)
    file = folder / "version.py"
    file.write_text("__version__ = '2.8.0+cu128'\ncuda: Optional[str] = '12.8'\nhip = None\n")
    assert doctor.torch_cuda() == (12, 8)
    file.write_text("__version__ = '2.8.0+cpu'\ncuda: Optional[str] = None\n")
    assert doctor.torch_cuda() is None


def test_pins_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = ["sgl-kernel==0.3.9.post2; extra == 'srt'", "flashinfer_python==0.3.1", "torch==2.8.0"]
    found = {"sgl-kernel": "0.3.9.post2+cu128", "flashinfer-python": "0.3.0"}
    monkeypatch.setattr(doctor, "_requirements", lambda name: pins)
    monkeypatch.setattr(doctor, "_installed", found.get)
    checks = {check.name: check for check in doctor.check_packages()}
    assert checks["sgl-kernel"].status is Status.OK
    assert checks["flashinfer-python"].status is Status.WARN
    assert checks["flashinfer-python"].remedy == "pip install flashinfer-python==0.3.1"
    assert checks["torch-memory-saver"].status is Status.WARN


def test_broken_check_does_not_end_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_this() -> Iterator[doctor.Check]:
        raise OSError("no such thing")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (check_this, doctor.check_python))
    first, second = doctor.diagnosis()
    assert first.status is Status.FAIL
    assert "no such thing" in first.found
    assert second.status is Status.OK


def test_driver_that_hangs_costs_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*arguments: Any, timeout: float, **options: Any) -> None:
        raise subprocess.TimeoutExpired("driver", timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert gpu.ask_in_child(0.1)["error"] == "the driver did not answer within 0.1 s"


# smoke, with an SGLang that starts real child processes and has no GPU to ask for.

FAKE = {
    "sglang/__init__.py": "",
    "sglang/version.py": "__version__ = '0.5.2'\n",
    "sglang/srt/__init__.py": "",
    "sglang/srt/entrypoints/__init__.py": "",
    "sglang/srt/entrypoints/engine.py": """
        import json
        import multiprocessing as mp
        import os
        import signal
        import threading
        import time
        from pathlib import Path

        def child():
            time.sleep(600)

        def _set_envs_and_config(server_args):
            signal.signal(signal.SIGQUIT, print)
            os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "8"
            mp.set_start_method("spawn", force=True)

        class Engine:
            def __init__(self, **kwargs):
                assert threading.current_thread() is not threading.main_thread()
                config = json.loads(Path(kwargs["model_path"], "config.json").read_text())
                assert config["architectures"] == ["Qwen2ForCausalLM"]
                _set_envs_and_config(None)
                BEFORE_START
                self.process = mp.Process(target=child, daemon=True)
                self.process.start()
                time.sleep(1)

            async def async_generate(self, input_ids, sampling_params):
                return {"output_ids": list(range(sampling_params["max_new_tokens"]))}

            def shutdown(self):
                self.process.kill()
        """,
}


def fake(folder: Path, before_start: str = "pass") -> str:
    for name, text in FAKE.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).replace("BEFORE_START", before_start))
    return str(folder)


def test_smoke_starts_generates_and_looks_at_children(python: Path, tmp_path: Path) -> None:
    done = run(python, "smoke", "--json", PYTHONPATH=fake(tmp_path))
    result = json.loads(done.stdout)
    assert result["faults"] == []
    assert done.returncode == 0
    assert result["output_ids"] == list(range(smoke.NEW_TOKENS))
    (child,) = result["children"]
    assert child["CUDA_DEVICE_MAX_CONNECTIONS"] == "4"
    assert "PYTORCH_CUDA_ALLOC_CONF" not in child
    for timing in ("import_s", "start_s", "first_token_s", "shutdown_s"):
        assert result[timing] >= 0


def test_smoke_keeps_an_operators_value(python: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": fake(tmp_path), "CUDA_DEVICE_MAX_CONNECTIONS": "8"}
    result = json.loads(run(python, "smoke", "--json", **env).stdout)
    assert result["ok"]
    assert result["children"][0]["CUDA_DEVICE_MAX_CONNECTIONS"] == "8"


def test_smoke_fails_where_children_see_the_wrong_thing(python: Path, tmp_path: Path) -> None:
    wrong = "os.environ['PYTORCH_ALLOC_CONF'] = 'expandable_segments:True'"
    done = run(python, "smoke", PYTHONPATH=fake(tmp_path, wrong))
    assert done.returncode == 1
    assert "fault: a child has PYTORCH_ALLOC_CONF=expandable_segments:True" in done.stdout


def test_smoke_without_the_hook_in_children(python: Path, tmp_path: Path) -> None:
    """Autoload off: smoke applies the patch itself, so the engine still starts."""
    env = {"PYTHONPATH": fake(tmp_path), "ROLL_RUNTIME_AUTOLOAD": "0"}
    assert run(python, "smoke", **env).returncode == 0


def test_smoke_names_the_remedy(python: Path, tmp_path: Path) -> None:
    raising = (
        "raise RuntimeError('Not enough memory. Please try to increase --mem-fraction-static.')"
    )
    done = run(python, "smoke", PYTHONPATH=fake(tmp_path, raising))
    assert done.returncode == 1
    assert "smoke: FAILED" in done.stdout
    assert "Raise mem_fraction_static in strategy_config" in done.stdout


@pytest.mark.parametrize("crash", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGQUIT)"])
def test_smoke_of_an_engine_that_dies(python: Path, tmp_path: Path, crash: str) -> None:
    done = run(python, "smoke", PYTHONPATH=fake(tmp_path, crash))
    assert done.returncode == 1
    assert "and no result" in done.stdout


def test_smoke_never_hangs_and_leaves_nothing(python: Path, tmp_path: Path) -> None:
    marker = f"marker_{os.getpid()}_{time.monotonic_ns()}"
    hang = (
        "signal.signal; import subprocess; "
        f"subprocess.Popen(['/bin/sh', '-c', 'trap \"\" TERM; : {marker}; sleep 600']); "
        "time.sleep(600)"
    )
    begin = time.monotonic()
    done = run(python, "smoke", "--timeout", "4", PYTHONPATH=fake(tmp_path, hang))
    assert time.monotonic() - begin < 30
    assert done.returncode == 1
    assert "timed out after 4 s" in done.stdout
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                assert marker.encode() not in (entry / "cmdline").read_bytes()
            except OSError:
                continue


def test_smoke_without_sglang(python: Path) -> None:
    done = run(python, "smoke")
    assert done.returncode == 1
    assert "pip install sglang" in done.stdout


def test_children_keep_their_environment_readable() -> None:
    """setproctitle writes over /proc/<pid>/environ without it: smoke would see nothing."""
    assert smoke._environment()["SPT_NOENV"] == "1"


def test_tiny_model_fits_two_gpus_and_block_fp8() -> None:
    model = smoke.MODEL
    assert model["head_dim"] in (64, 128, 256, 512)
    assert model["hidden_size"] == model["num_attention_heads"] * model["head_dim"]
    for gpus in (1, 2):
        heads = model["num_key_value_heads"] // gpus
        assert heads * model["head_dim"] % 128 == 0
        assert model["intermediate_size"] // gpus % 128 == 0
