"""Cold start of an engine in an image, on a GPU: seconds from process start to the first token.

    python benchmarks/cold_start.py --target torch280-sglang052 --rootfs DIR --store LAYOUT

With and without the byte code that the image ships, with and without kernels that an earlier start
compiled, and once with no file of the image in memory, as on a node that has just pulled it. The
engine is `roll_runtime smoke`'s: two layers, SGLang's own backends, CUDA graphs; so nothing of the
time is a real model's weights. Each line of the output is a result. `--only 1 2 3` runs some; those
with kernels need the one before them that compiles.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from images.oci.store import store  # noqa: E402
from tests.image.box import Box  # noqa: E402
from tests.image.rootfs import RootfsBox  # noqa: E402

SMOKE = "python -m roll_runtime smoke --default-backends --json"
NO_BYTE_CODE = {"PYTHONPYCACHEPREFIX": "/tmp/no-byte-code", "PYTHONDONTWRITEBYTECODE": "1"}
STEPS = ("import_s", "start_s", "first_token_s")


@dataclass(frozen=True)
class Scenario:
    """A start, and its conditions.

    Attributes:
        name: its name in the results.
        env: variables beside the image's own.
        fresh: whether it is in a box of its own. The others share one, and so the kernels that the
            first of them compiled.
        from_disk: whether the image's files are dropped from memory before.
    """

    name: str
    env: dict[str, str]
    fresh: bool = False
    from_disk: bool = False


SCENARIOS = (
    Scenario("byte code, no kernels, files on disk", {}, fresh=True, from_disk=True),
    Scenario("byte code, no kernels", {}),
    Scenario("byte code, kernels", {}),
    Scenario("no byte code, kernels", NO_BYTE_CODE),
    Scenario("no byte code, no kernels", NO_BYTE_CODE, fresh=True),
)


def start(box: Box, scenario: Scenario) -> dict[str, Any]:
    """Start once; return the steps in seconds, and what was compiled."""
    if scenario.from_disk:
        # Clean pages, directory entries and inodes: Linux, Documentation/admin-guide/sysctl/vm.rst.
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    begin = time.monotonic()
    done = box.attempt(SMOKE, env=scenario.env)
    seconds = time.monotonic() - begin
    text = str(done.stdout)
    if "{" not in text:
        raise SystemExit(f"{scenario.name}: smoke reported nothing: {done.stderr}")
    report: dict[str, Any] = json.loads(text[text.index("{") :])
    return {
        "scenario": scenario.name,
        "to_first_token_s": round(sum(report.get(step, 0.0) for step in STEPS), 2),
        **{step: report.get(step) for step in STEPS},
        "whole_command_s": round(seconds, 2),
        "compiled": report.get("compiled", {}),
        "caches": cache_sizes(box),
        "faults": report.get("faults", []),
    }


def cache_sizes(box: Box) -> dict[str, int]:
    """Return the bytes that the start left in HOME, by directory.

    A directory that is named after one below it is without that one's bytes.
    """
    command = (
        "du -sb ~/.cache/roll_runtime/*/* ~/.cache/* ~/.triton /tmp/torchinductor_* 2>/dev/null"
    )
    lines = box.attempt(command).stdout.splitlines()
    return {path: int(size) for size, path in (line.split("\t") for line in lines)}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="torch280-sglang052")
    parser.add_argument("--store", type=Path, required=True, help="an OCI layout with its config")
    parser.add_argument("--rootfs", type=Path, required=True, help="the image, unpacked")
    parser.add_argument("--only", type=int, nargs="+", default=range(len(SCENARIOS)))
    options = parser.parse_args()
    image = store.open_store(options.store, create=False).load(options.target)
    print(json.dumps({"target": options.target, "manifest_digest": image.manifest_digest}))
    box = RootfsBox(options.rootfs, image)
    with box.started(gpus=True) as kept:
        for number in options.only:
            scenario = SCENARIOS[number]
            if scenario.fresh:
                with box.started(gpus=True) as empty:
                    result = start(empty, scenario)
            else:
                result = start(kept, scenario)
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
