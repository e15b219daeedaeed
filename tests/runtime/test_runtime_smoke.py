"""``smoke`` with an SGLang that starts real child processes and has no GPU to ask for."""

from __future__ import annotations

import json
import math
import os
import struct
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from runtime_support import run_module as run

from images.export.kit import document
from roll_runtime import fp8, smoke, smoke_engine, smoke_model, smoke_release
from tests.gpu import engines

VERSION = "0.5.2"
FAKE = {
    "sglang/__init__.py": "",
    "sglang/version.py": "__version__ = '0.5.2'\n",
    "sglang/srt/__init__.py": "",
    "sglang/srt/constants.py": "GPU_MEMORY_ALL_TYPES = ['kv_cache', 'weights', 'cuda_graph']\n",
    "sglang/srt/entrypoints/__init__.py": "",
    "sglang/srt/managers/__init__.py": "",
    "sglang/srt/managers/io_struct.py": """
        from dataclasses import dataclass

        @dataclass
        class ReleaseMemoryOccupationReqInput:
            tags: list = None

        @dataclass
        class ResumeMemoryOccupationReqInput:
            tags: list = None

        @dataclass
        class UpdateWeightFromDiskReqInput:
            model_path: str
        """,
    "torch_memory_saver.py": "",
    "sglang/srt/entrypoints/engine.py": """
        import json
        import multiprocessing as mp
        import os
        import signal
        import threading
        import time
        from pathlib import Path

        from roll_runtime import nvml
        from roll_runtime.smoke_model import TOKENS

        def child():
            time.sleep(600)

        def _set_envs_and_config(server_args):
            signal.signal(signal.SIGQUIT, print)
            os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "8"
            mp.set_start_method("spawn", force=True)

        class Manager:
            every = {"weights": 64, "kv_cache": 2048, "cuda_graph": 16}
            held = dict(every)
            content = {"weights"}

            async def release_memory_occupation(self, obj, request):
                for tag in obj.tags or self.every:
                    del self.held[tag]
                    self.content.discard(tag)

            async def resume_memory_occupation(self, obj, request):
                for tag in obj.tags or self.every:
                    assert tag not in self.held
                    self.held[tag] = self.every[tag]

            async def update_weights_from_disk(self, obj, request):
                assert "weights" in self.held
                assert Path(obj.model_path, "model.safetensors").is_file()
                self.content.add("weights")
                return True, "done", 0

        nvml.used_mib = lambda gpus: 500 + sum(Manager.held.values())

        class Engine:
            def __init__(self, **kwargs):
                config = json.loads(Path(kwargs["model_path"], "config.json").read_text())
                assert config["architectures"] == ["Qwen2ForCausalLM"]
                main = threading.current_thread() is threading.main_thread()
                print("started on the main thread:", main, flush=True)
                print("arguments:", sorted(kwargs), flush=True)
                _set_envs_and_config(None)
                self.tokenizer_manager = Manager()
                BEFORE_START
                self.process = mp.Process(target=child, daemon=True)
                self.process.start()
                time.sleep(1)

            async def async_generate(self, input_ids, sampling_params):
                assert set(self.tokenizer_manager.held) == {"weights", "kv_cache", "cuda_graph"}
                if "weights" not in self.tokenizer_manager.content:
                    return {"output_ids": [0] * sampling_params["max_new_tokens"]}
                return {"output_ids": list(TOKENS)[: sampling_params["max_new_tokens"]]}

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


def test_starts_generates_and_looks_at_children(python: Path, tmp_path: Path) -> None:
    done = run(python, "smoke", "--json", PYTHONPATH=fake(tmp_path))
    result = json.loads(done.stdout)
    assert result["faults"] == []
    assert done.returncode == 0
    assert result["output_ids"] == [*smoke_model.TOKENS]
    (child,) = result["children"]
    assert child["env"]["CUDA_DEVICE_MAX_CONNECTIONS"] == "4"
    assert "PYTORCH_CUDA_ALLOC_CONF" not in child["env"]
    for timing in ("import_s", "start_s", "first_token_s", "shutdown_s"):
        assert result[timing] >= 0
    assert result["variant"]["main_thread"] is False
    assert set(result["sigquit"].values()) == {"SIG_DFL"}


def test_on_the_main_thread_sglangs_handler_stays(python: Path, tmp_path: Path) -> None:
    done = run(python, "smoke", "--main-thread", PYTHONPATH=fake(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "started on the main thread: True" in done.stderr
    printed = run(python, "smoke", "--main-thread", "--json", PYTHONPATH=str(tmp_path)).stdout
    assert json.loads(printed)["sigquit"] == {
        "before": "SIG_DFL",
        "started": "builtins.print",
        "generated": "builtins.print",
    }


def test_handler_that_is_missing_on_the_main_thread_is_a_fault(
    python: Path, tmp_path: Path
) -> None:
    removed = "import signal as real; real.signal(real.SIGQUIT, real.SIG_DFL)"
    done = run(python, "smoke", "--main-thread", PYTHONPATH=fake(tmp_path, removed))
    assert done.returncode == 1
    assert "handler of SIGQUIT was not installed on the main thread" in done.stdout


@pytest.mark.parametrize(
    ("release", "main_thread", "started", "fault"),
    [
        (VERSION, False, "SIG_DFL", ""),
        (VERSION, False, "engine.handler", "changed off the main thread: engine.handler"),
        (VERSION, True, "engine.handler", ""),
        (VERSION, True, "SIG_DFL", "not installed"),
        ("0.5.10.post1", True, "SIG_DFL", ""),
    ],
)
def test_handlers(release: str, main_thread: bool, started: str, fault: str) -> None:
    seen = {"before": "SIG_DFL", "started": started, "generated": started}
    found = smoke_engine.check_handler(release, main_thread, seen)
    assert (fault in found[0]) if fault else found == []


# -- releasing memory ------------------------------------------------------------------------------


def test_memory_is_released_and_weights_come_back(python: Path, tmp_path: Path) -> None:
    done = run(python, "smoke", "--release-memory", "--json", PYTHONPATH=fake(tmp_path))
    result = json.loads(done.stdout)
    assert result["faults"] == []
    assert result["memory_mib"] == {"running": 2628, "released": 500, "resumed": 2628}
    assert result["restored_ids"] == result["output_ids"]
    assert result["release_s"] >= 0
    assert result["resume_s"] >= 0


def test_weights_that_do_not_come_back_are_a_fault(python: Path, tmp_path: Path) -> None:
    lost = "Manager.content = type('Lost', (set,), {'add': lambda *_: None})({'weights'})"
    done = run(python, "smoke", "--release-memory", PYTHONPATH=fake(tmp_path, lost))
    assert done.returncode == 1
    assert "after a release and with the same weights again, [0, 0" in done.stdout


def test_release_without_memory_saver_is_a_fault(python: Path, tmp_path: Path) -> None:
    path = fake(tmp_path)
    (tmp_path / "torch_memory_saver.py").unlink()
    done = run(python, "smoke", "--release-memory", PYTHONPATH=path)
    assert done.returncode == 1
    assert "torch_memory_saver is not installed" in done.stdout


def test_release_without_tags(python: Path, tmp_path: Path) -> None:
    """SGLang 0.4.6 releases and resumes all at once."""
    path = fake(tmp_path)
    file = tmp_path / "sglang" / "srt" / "managers" / "io_struct.py"
    file.write_text(file.read_text().replace("    tags: list = None", "    pass"))
    engine = tmp_path / "sglang" / "srt" / "entrypoints" / "engine.py"
    engine.write_text(engine.read_text().replace("obj.tags or self.every", "self.every"))
    (tmp_path / "sglang" / "srt" / "constants.py").unlink()
    done = run(python, "smoke", "--release-memory", PYTHONPATH=path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("released", "resumed", "faults"),
    [
        (1000, 3100, []),
        (3000, 3100, ["gave back", "took"]),
        (1000, 1100, ["took"]),
    ],
)
def test_memory_is_judged(released: int, resumed: int, faults: list[str]) -> None:
    used = {"running": 3100, "released": released, "resumed": resumed}
    found = smoke_release.check_memory(used)
    assert len(found) == len(faults)
    assert all(word in text for word, text in zip(faults, found, strict=True))


def test_memory_that_is_not_reported_is_a_fault(python: Path, tmp_path: Path) -> None:
    silent = "nvml.used_mib = lambda gpus: None"
    done = run(python, "smoke", "--release-memory", PYTHONPATH=fake(tmp_path, silent))
    assert done.returncode == 1
    assert "does not report the GPU memory in use" in done.stdout


def test_wrong_tokens_are_a_fault_but_not_of_rounded_weights(python: Path, tmp_path: Path) -> None:
    wrong = "global TOKENS; TOKENS = [7] * 8"
    path = fake(tmp_path, f"{wrong}; print('{fp8.LOADED}', flush=True)")
    done = run(python, "smoke", PYTHONPATH=path)
    assert done.returncode == 1
    assert f"[7, 7, 7, 7, 7, 7, 7, 7] came, not {[*smoke_model.TOKENS]}" in done.stdout
    assert run(python, "smoke", "--fp8", PYTHONPATH=path).returncode == 0


# -- variants --------------------------------------------------------------------------------------


def test_default_backends_leave_the_choice_to_sglang(python: Path, tmp_path: Path) -> None:
    path = fake(tmp_path)
    chosen = {"attention_backend", "sampling_backend", "disable_cuda_graph"}
    ours = run(python, "smoke", PYTHONPATH=path)
    theirs = run(python, "smoke", "--default-backends", PYTHONPATH=path)
    for done, there in ((ours, True), (theirs, False)):
        assert done.returncode == 0, done.stdout
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("arguments:"))
        assert {name for name in chosen if name in line} == (chosen if there else set())
    assert "sampled" in theirs.stdout
    assert "sampled" not in ours.stdout


def test_fp8_must_have_quantised_something(python: Path, tmp_path: Path) -> None:
    path = fake(tmp_path)
    done = run(python, "smoke", "--fp8", PYTHONPATH=path)
    assert done.returncode == 1
    assert "no weight was quantised to block FP8" in done.stdout
    logged = f"print('INFO {fp8.LOADED}: the first one is torch.float8_e4m3fn now', flush=True)"
    printed = run(python, "smoke", "--fp8", "--json", PYTHONPATH=fake(tmp_path, logged))
    result = json.loads(printed.stdout)
    assert result["ok"]
    assert result["quantised"] == ["the first one is torch.float8_e4m3fn now"]


def test_compiled_kernels_are_reported(python: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    old = home / ".triton" / "cache" / "A" / "old_kernel.cubin"
    old.parent.mkdir(parents=True)
    old.touch()
    write = (
        "places = [Path.home(), '.triton', 'cache', 'B', 'new_kernel.cubin']; "
        "file = Path(*places); file.parent.mkdir(); file.touch()"
    )
    path = fake(tmp_path / "fake", write)
    printed = run(python, "smoke", "--json", PYTHONPATH=path, HOME=str(home)).stdout
    assert json.loads(printed)["compiled"] == {"triton": {"count": 1, "names": ["new_kernel"]}}


# -- what goes wrong -------------------------------------------------------------------------------


def test_keeps_an_operators_value(python: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": fake(tmp_path), "CUDA_DEVICE_MAX_CONNECTIONS": "8"}
    result = json.loads(run(python, "smoke", "--json", **env).stdout)
    assert result["ok"]
    assert result["children"][0]["env"]["CUDA_DEVICE_MAX_CONNECTIONS"] == "8"


def test_fails_where_children_see_the_wrong_thing(python: Path, tmp_path: Path) -> None:
    wrong = "os.environ['PYTORCH_ALLOC_CONF'] = 'expandable_segments:True'"
    done = run(python, "smoke", PYTHONPATH=fake(tmp_path, wrong))
    assert done.returncode == 1
    assert "fault: a child has PYTORCH_ALLOC_CONF=expandable_segments:True" in done.stdout


def test_without_the_hook_in_children(python: Path, tmp_path: Path) -> None:
    """Autoload off: smoke applies the patch itself, so the engine still starts."""
    env = {"PYTHONPATH": fake(tmp_path), "ROLL_RUNTIME_AUTOLOAD": "0"}
    assert run(python, "smoke", **env).returncode == 0


def test_names_the_remedy(python: Path, tmp_path: Path) -> None:
    raising = (
        "raise RuntimeError('Not enough memory. Please try to increase --mem-fraction-static.')"
    )
    done = run(python, "smoke", PYTHONPATH=fake(tmp_path, raising))
    assert done.returncode == 1
    assert "smoke: FAILED" in done.stdout
    assert "Raise mem_fraction_static in strategy_config" in done.stdout


def test_json_of_a_failure_comes_with_the_end_of_the_log(python: Path, tmp_path: Path) -> None:
    failing = "print('a line of the log', flush=True); raise RuntimeError('broken')"
    done = run(python, "smoke", "--json", PYTHONPATH=fake(tmp_path, failing))
    assert json.loads(done.stdout)["faults"] == ["RuntimeError: broken"]
    assert "a line of the log" in done.stderr


@pytest.mark.parametrize("crash", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGQUIT)"])
def test_engine_that_dies(python: Path, tmp_path: Path, crash: str) -> None:
    done = run(python, "smoke", PYTHONPATH=fake(tmp_path, crash))
    assert done.returncode == 1
    assert "and no result" in done.stdout


def test_never_hangs_and_leaves_nothing(python: Path, tmp_path: Path) -> None:
    marker = f"marker_{os.getpid()}_{time.monotonic_ns()}"
    hang = (
        "signal.signal; import subprocess; "
        f"subprocess.Popen(['/bin/sh', '-c', 'trap \"\" TERM; : {marker}; sleep 600']); "
        "time.sleep(600)"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    begin = time.monotonic()
    done = run(
        python,
        "smoke",
        "--timeout",
        "4",
        PYTHONPATH=fake(tmp_path, hang),
        TMPDIR=str(temporary),
    )
    assert time.monotonic() - begin < 30
    assert done.returncode == 1
    assert "timed out after 4 s" in done.stdout
    assert list(temporary.iterdir()) == []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                assert marker.encode() not in (entry / "cmdline").read_bytes()
            except OSError:
                continue


def test_without_sglang(python: Path) -> None:
    done = run(python, "smoke")
    assert done.returncode == 1
    assert "pip install sglang" in done.stdout


def test_children_keep_their_environment_readable() -> None:
    """setproctitle writes over /proc/<pid>/environ without it: smoke would see nothing."""
    assert smoke._environment()["SPT_NOENV"] == "1"


# -- the model -------------------------------------------------------------------------------------


def test_tiny_model_fits_two_gpus_and_block_fp8() -> None:
    model = smoke_model.MODEL
    assert model["head_dim"] in (64, 128, 256, 512)
    assert model["hidden_size"] == model["num_attention_heads"] * model["head_dim"]
    for gpus in (1, 2):
        heads = model["num_key_value_heads"] // gpus
        assert heads * model["head_dim"] % 128 == 0
        assert model["intermediate_size"] // gpus % 128 == 0


def read_weights(file: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    raw = file.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    data = raw[8 + length :]
    found = {name: (entry, data[slice(*entry["data_offsets"])]) for name, entry in header.items()}
    assert sum(len(piece) for _, piece in found.values()) == len(data)
    return found


def bf16(piece: bytes) -> list[float]:
    halves = struct.unpack(f"<{len(piece) // 2}H", piece)
    return [struct.unpack("<f", struct.pack("<I", half << 16))[0] for half in halves]


def test_weights_are_a_safetensors_file(tmp_path: Path) -> None:
    smoke_model.write(tmp_path)
    found = read_weights(tmp_path / "model.safetensors")
    assert {name: tuple(entry["shape"]) for name, (entry, _) in found.items()} == (
        smoke_model.shapes()
    )
    assert (8 + struct.unpack("<Q", (tmp_path / "model.safetensors").read_bytes()[:8])[0]) % 8 == 0
    for entry, piece in found.values():
        assert entry["dtype"] == "BF16"
        assert len(piece) == 2 * math.prod(entry["shape"])
    assert set(bf16(found["model.norm.weight"][1])) == {1.0}
    values = bf16(found["model.layers.1.self_attn.k_proj.weight"][1][:20_000])
    spread = math.sqrt(sum(value * value for value in values) / len(values))
    assert 0.018 < spread < 0.022
    assert abs(sum(values) / len(values)) < 0.001


def test_weights_are_always_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        smoke_model.write(tmp_path / name)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize(
    ("release", "off"), [("0.5.9", False), ("0.5.10.post1", True), ("0.5.17", False)]
)
def test_block_fp8_starts_without_graphs_of_prefills_where_they_are_on_by_default(
    tmp_path: Path, release: str, off: bool
) -> None:
    for fp8_too in (False, True):
        variant = smoke_engine.Variant(fp8=fp8_too)
        found = smoke_engine.engine_arguments(tmp_path, variant, True, release)
        assert ("disable_piecewise_cuda_graph" in found) == (off and fp8_too)


def test_memory_in_use_is_no_fault_beside_other_suites(monkeypatch: pytest.MonkeyPatch) -> None:
    of_memory = smoke_release.check_memory({"running": 9, "released": 9, "resumed": 9})
    assert len(of_memory) == 2
    result = {"faults": [*of_memory, "another"]}
    monkeypatch.delenv(document.TURNS, raising=False)
    assert engines.faults(result) == [*of_memory, "another"]
    monkeypatch.setenv(document.TURNS, "/turns")
    assert engines.faults(result) == ["another"]
