"""Start a tiny engine off the main thread, generate, look at its children, shut down.

``python -m roll_runtime smoke`` needs a GPU and nothing else: the model is a config of 2 layers
with random weights, there is no tokenizer and no network. The work is done in a child process; the
command itself only waits, so that its timeout holds whatever the engine does.
"""

import asyncio
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

#: The engine's child tells its results on the line that starts with this.
_MARK = "roll_runtime smoke result: "

#: Sizes that every supported release can run: head_dim 128 (0.5.5 and earlier import vLLM for
#: others), and every partition a multiple of 128 at up to two GPUs, for block FP8.
MODEL: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "torch_dtype": "bfloat16",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "vocab_size": 1024,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
}

FP8_RECIPE = {
    "quantization_config": {"activation_scheme": "dynamic", "weight_block_size": [128, 128]}
}

#: New tokens that the engine is asked for.
NEW_TOKENS = 8


def engine_arguments(model: Path, tp_size: int, fp8: bool, memory_saver: bool) -> dict[str, Any]:
    """Return arguments that every supported release takes.

    Args:
        model: a directory with ``config.json`` alone.
        tp_size: GPUs of the engine.
        fp8: whether to quantise on load; then the weights must be loaded, so they are made first.
        memory_saver: whether torch_memory_saver is installed, as ROLL needs it.
    """
    arguments: dict[str, Any] = {
        "model_path": str(model),
        "load_format": "auto" if fp8 else "dummy",
        "skip_tokenizer_init": True,
        "dtype": "bfloat16",
        "random_seed": 42,
        "tp_size": tp_size,
        "mem_fraction_static": 0.3,
        # Two layers need 2 KiB a token: without a limit the pool gets tens of millions of tokens.
        "max_total_tokens": 4096,
        "max_running_requests": 8,
        # Backends that compile nothing with nvcc.
        "attention_backend": "triton",
        "sampling_backend": "pytorch",
        "disable_cuda_graph": True,
        "disable_custom_all_reduce": True,
        "trust_remote_code": True,
        "enable_memory_saver": memory_saver,
        "log_level": "info",
        # What ROLL passes as well, on every release (args.py drops it where it is missing).
        "enable_return_routed_experts": False,
    }
    if fp8:
        arguments["quantization"] = "fp8"
        arguments["json_model_override_args"] = json.dumps(FP8_RECIPE)
    return arguments


def _descendants() -> list[int]:
    """Return the process ids below this process, from /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found, wave = [], {os.getpid()}
    while wave:
        wave = {pid for pid, parent in parents.items() if parent in wave}
        found += sorted(wave)
    return found


def child_environments() -> list[dict[str, str]]:
    """Return the policy's variables as each child of this process started with them."""
    from roll_runtime.env import NAMES

    seen = []
    for pid in _descendants():
        try:
            command = (Path("/proc") / str(pid) / "cmdline").read_bytes()
            raw = (Path("/proc") / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        # SGLang names its processes `sglang::scheduler…`; multiprocessing's resource tracker and
        # Triton's compiler are not the engine's.
        if b"sglang::" in command or b"spawn_main" in command:
            pairs = dict(
                part.partition("=")[::2]
                for part in raw.decode(errors="replace").split("\0")
                if part
            )
            seen.append({name: pairs[name] for name in NAMES if name in pairs})
    return seen


def check_environments(version: str, seen: list[dict[str, str]]) -> list[str]:
    """Return what is wrong with the children's environments, a sentence each."""
    from roll_runtime.env import Kind, rules_for

    if not seen:
        return ["the engine has no child process"]
    faults = []
    for rule in rules_for(version):
        for env in seen:
            found = env.get(rule.name)
            if rule.kind is Kind.REMOVE and found is not None:
                faults.append(f"a child has {rule.name}={found}")
            expected = os.environ.get(rule.name)
            if rule.kind is Kind.KEEP and found != expected:
                faults.append(f"a child has {rule.name}={found}, not {expected}")
    return sorted(set(faults))


async def _work(arguments: dict[str, Any], result: dict[str, Any], started: float) -> None:
    from roll_runtime import dispatch

    engine_class: Any = importlib.import_module("sglang.srt.entrypoints.engine").Engine
    result["sglang"] = dispatch.sglang_version()
    result["import_s"] = round(time.monotonic() - started, 2)
    before = time.monotonic()
    engine = engine_class(**arguments)
    result["start_s"] = round(time.monotonic() - before, 2)
    try:
        result["children"] = child_environments()
        result["faults"] = check_environments(dispatch.sglang_version(), result["children"])
        sampling = {"max_new_tokens": 1, "ignore_eos": True, "temperature": 0}
        before = time.monotonic()
        await engine.async_generate(input_ids=[1, 5, 9, 13], sampling_params=sampling)
        result["first_token_s"] = round(time.monotonic() - before, 3)
        sampling["max_new_tokens"] = NEW_TOKENS
        answer = await engine.async_generate(input_ids=[1, 5, 9, 13], sampling_params=sampling)
        result["output_ids"] = list(answer["output_ids"])
        if len(result["output_ids"]) != NEW_TOKENS:
            result["faults"].append(f"{len(result['output_ids'])} tokens came, not {NEW_TOKENS}")
    finally:
        before = time.monotonic()
        engine.shutdown()
        result["shutdown_s"] = round(time.monotonic() - before, 2)


def _write_model(folder: Path, fp8: bool) -> None:
    (folder / "config.json").write_text(json.dumps(MODEL))
    if fp8:
        _write_weights(folder)


def _write_weights(folder: Path) -> None:
    """Write random bf16 weights, so that the loaders have something to quantise."""
    torch: Any = importlib.import_module("torch")
    save_file: Any = importlib.import_module("safetensors.torch").save_file

    hidden, inner = MODEL["hidden_size"], MODEL["intermediate_size"]
    kv = MODEL["num_key_value_heads"] * MODEL["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (MODEL["vocab_size"], hidden)
    }
    shapes["model.norm.weight"] = (hidden,)
    for index in range(MODEL["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        for name, rows in (("q", hidden), ("k", kv), ("v", kv)):
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = (rows, hidden)
            shapes[f"{layer}.self_attn.{name}_proj.bias"] = (rows,)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (hidden, hidden)
        shapes[f"{layer}.mlp.gate_proj.weight"] = (inner, hidden)
        shapes[f"{layer}.mlp.up_proj.weight"] = (inner, hidden)
        shapes[f"{layer}.mlp.down_proj.weight"] = (hidden, inner)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}.{name}.weight"] = (hidden,)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: (torch.randn(shape, generator=generator) * 0.02).to(torch.bfloat16)
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def run(tp_size: int, fp8: bool) -> int:
    """Do the work in this process and print the result line. Called in a child by :func:`main`."""
    import roll_runtime

    result: dict[str, Any] = {"faults": []}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="roll-runtime-smoke-") as folder:
        _write_model(Path(folder), fp8)
        saver = importlib.util.find_spec("torch_memory_saver") is not None
        arguments = engine_arguments(Path(folder), tp_size, fp8, saver)

        def actor() -> None:
            # As a Ray async actor does it: a coroutine on a thread that is not the main one. The
            # thread outlives the engine, whose children die with the thread that made them.
            try:
                asyncio.run(_work(arguments, result, started))
            except BaseException as error:
                result["faults"].append(f"{type(error).__name__}: {error}")

        roll_runtime.apply()
        thread = threading.Thread(target=actor, name="actor")
        thread.start()
        thread.join()
    result["roll_runtime"] = roll_runtime.__version__
    print(_MARK + json.dumps(result), flush=True)
    # SGLang's exit handlers have nothing left to do, and some wait for threads.
    os._exit(1 if result["faults"] else 0)


def _environment() -> dict[str, str]:
    """Return the child's environment: no network, and what ROLL's workers preset."""
    return {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "PYTHONUNBUFFERED": "1",
        # SGLang's processes rename themselves, and setproctitle writes the name over
        # /proc/<pid>/environ, which is read here, unless it is told not to.
        "SPT_NOENV": "1",
        **os.environ,
        # Both must be gone in the engine's children: that is part of what is tried.
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    }


def _kill_group(process: "subprocess.Popen[str]") -> None:
    """End the child and all that it started: it leads its own process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            continue


def main(timeout: float, tp_size: int, as_json: bool, fp8: bool = False) -> int:
    """Run the smoke test in a child process.

    Args:
        timeout: seconds after which everything is ended and the test has failed.
        tp_size: GPUs of the engine.
        as_json: print the result alone, as JSON.
        fp8: quantise bf16 weights to block FP8 on load.

    Returns:
        0 when the engine started, generated and its children saw the right environment; else 1.
    """
    code = f"from roll_runtime import smoke\nif __name__ == '__main__': smoke.run({tp_size}, {fp8})"
    with tempfile.TemporaryDirectory(prefix="roll-runtime-smoke-") as folder:
        # A file, because spawned children import the main module again.
        script = Path(folder) / "smoke_child.py"
        script.write_text(code)
        process = subprocess.Popen(
            [sys.executable, str(script)],
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        lines: list[str] = []
        reader = threading.Thread(target=_read, args=(process, lines, as_json), daemon=True)
        reader.start()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            lines.append(f"timed out after {timeout:g} s")
        _kill_group(process)
        reader.join(5)
    return _conclude(process.returncode, lines, as_json)


def _read(process: "subprocess.Popen[str]", lines: list[str], quiet: bool) -> None:
    for line in process.stdout or ():
        lines.append(line.rstrip("\n"))
        if not quiet and not line.startswith(_MARK):
            sys.stderr.write(line)


def _conclude(status: int, lines: list[str], as_json: bool) -> int:
    from roll_runtime.remedies import diagnose

    marked = [line for line in lines if line.startswith(_MARK)]
    result: dict[str, Any] = json.loads(marked[-1].removeprefix(_MARK)) if marked else {}
    faults: list[str] = result.setdefault("faults", [])
    if not marked:
        faults.append(lines[-1] if lines else "the engine's process printed nothing")
        faults.append(f"the engine's process ended with status {status} and no result")
    found = diagnose("\n".join(lines)) if faults else None
    if found is not None:
        faults.append(str(found))
    result["ok"] = not faults
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    return 0 if result["ok"] else 1


def _print(result: dict[str, Any]) -> None:
    print(f"smoke: {'ok' if result['ok'] else 'FAILED'}  sglang {result.get('sglang', 'unknown')}")
    for key, label in (
        ("import_s", "import"),
        ("start_s", "start"),
        ("first_token_s", "first token"),
        ("shutdown_s", "shutdown"),
    ):
        if key in result:
            print(f"  {label:12} {result[key]:8.3f} s")
    if "output_ids" in result:
        print(f"  {'tokens':12} {result['output_ids']}")
    for env in result.get("children", [])[:1]:
        print(f"  {'children':12} {len(result['children'])}, with", end=" ")
        print(" ".join(f"{name}={value}" for name, value in env.items()))
    for fault in result["faults"]:
        print(f"  fault: {fault}")
