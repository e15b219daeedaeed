"""Start a tiny engine off the main thread, generate, look at its children, shut down.

`python -m roll_runtime smoke` needs a GPU and nothing else: the model is a config of 2 layers
with random weights, there is no tokenizer and no network. The work is done in a child process
(`smoke_engine`); the command itself only waits, so that its timeout holds whatever the engine
does.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from roll_runtime import compiled, fp8
from roll_runtime.smoke_engine import MARK, Variant

_TAIL = 100
"""Lines of the engine's log that go with a failure to standard error where only JSON is printed."""


def _environment() -> dict[str, str]:
    """Return the child's environment: no network, and what ROLL's workers preset."""
    return {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "PYTHONUNBUFFERED": "1",
        # Block FP8 on Hopper: compile what the few requests need, not every size beforehand, which
        # takes minutes (the name up to 0.5.2, and the one since).
        "SGL_JIT_DEEPGEMM_PRECOMPILE": "false",
        "SGLANG_JIT_DEEPGEMM_PRECOMPILE": "false",
        # SGLang's processes rename themselves, and setproctitle writes the name over
        # /proc/<pid>/environ, which is read here, unless this variable is set.
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


def main(variant: Variant, timeout: float, as_json: bool) -> int:
    """Run the smoke test in a child process.

    Args:
        variant: how the engine is started and what is done with it.
        timeout: seconds after which everything is ended and the test has failed.
        as_json: print the result alone, as JSON; the end of the log where it failed.

    Returns:
        0 when the engine did its work and its children saw the right environment, else
        1.
    """
    before = compiled.snapshot()
    status, lines = _child(variant, timeout, quiet=as_json)
    result = _conclude(variant, status, lines)
    result["compiled"] = compiled.since(before, compiled.snapshot())
    if as_json:
        if not result["ok"]:
            sys.stderr.write("".join(f"{line}\n" for line in lines[-_TAIL:]))
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    return 0 if result["ok"] else 1


def _child(variant: Variant, timeout: float, quiet: bool) -> tuple[int, list[str]]:
    """Run the engine's process to its end; return its status and what it printed, by lines."""
    with tempfile.TemporaryDirectory(prefix="roll-runtime-smoke-") as folder:
        # Made here, where it is also removed when the child is killed.
        model = Path(folder) / "model"
        model.mkdir()
        # A file, because spawned children import the main module again.
        script = Path(folder) / "smoke_child.py"
        script.write_text(
            "from roll_runtime.smoke_engine import Variant, run\n"
            f"if __name__ == '__main__': run({variant!r}, {str(model)!r})\n"
        )
        process = subprocess.Popen(
            [sys.executable, str(script)],
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        lines: list[str] = []
        reader = threading.Thread(target=_read, args=(process, lines, quiet), daemon=True)
        reader.start()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            lines.append(f"timed out after {timeout:g} s")
        _kill_group(process)
        reader.join(5)
    return process.returncode, lines


def _read(process: "subprocess.Popen[str]", lines: list[str], quiet: bool) -> None:
    for line in process.stdout or ():
        lines.append(line.rstrip("\n"))
        if not quiet and not line.startswith(MARK):
            sys.stderr.write(line)


def _conclude(variant: Variant, status: int, lines: list[str]) -> dict[str, Any]:
    """Return the result that the engine's process reported, with what its log adds."""
    from roll_runtime.remedies import diagnose

    marked = [line for line in lines if line.startswith(MARK)]
    result: dict[str, Any] = json.loads(marked[-1].removeprefix(MARK)) if marked else {}
    faults: list[str] = result.setdefault("faults", [])
    if not marked:
        faults.append(lines[-1] if lines else "the engine's process printed nothing")
        faults.append(f"the engine's process ended with status {status} and no result")
    found = diagnose("\n".join(lines)) if faults else None
    if found is not None:
        faults.append(str(found))
    if variant.fp8 and marked:
        # The weights are the scheduler's: its log reports what it made of them.
        logged = [line.partition(fp8.LOADED)[2] for line in lines if fp8.LOADED in line]
        result["quantised"] = [text.strip(" :") for text in logged]
        if not logged:
            faults.append("no weight was quantised to block FP8")
    result["variant"] = asdict(variant)
    result["ok"] = not faults
    return result


def _print(result: dict[str, Any]) -> None:
    print(f"smoke: {'ok' if result['ok'] else 'FAILED'}  sglang {result.get('sglang', 'unknown')}")
    for key, label in (
        ("import_s", "import"),
        ("start_s", "start"),
        ("first_token_s", "first token"),
        ("release_s", "release"),
        ("resume_s", "resume"),
        ("shutdown_s", "shutdown"),
    ):
        if key in result:
            print(f"  {label:12} {result[key]:8.3f} s")
    for key, label in (("output_ids", "tokens"), ("sampled_ids", "sampled"), ("memory_mib", "MiB")):
        if key in result:
            print(f"  {label:12} {result[key]}")
    for child in result.get("children", [])[:1]:
        print(f"  {'children':12} {len(result['children'])}, with", end=" ")
        print(" ".join(f"{name}={value}" for name, value in child["env"].items()))
    for owner, found in result["compiled"].items():
        print(f"  {'compiled':12} {found['count']} by {owner}: {', '.join(found['names'])}")
    for text in result.get("quantised", []):
        print(f"  {'quantised':12} {text}")
    for fault in result["faults"]:
        print(f"  fault: {fault}")
