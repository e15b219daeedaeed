"""A session of ROLL's own code in the image: started, followed step by step, and its logs."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images.commands.test.roll_checkout import RollCheckout
from tests.image.box import Box

PLACE = "/tmp/roll-test"
_INSIDE = Path(__file__).parent / "inside"
_SITE = "import kit_shim\n"
_POLL = 1.0  # seconds
_SUFFIXES = (".py", ".yaml", ".yml", ".json", ".txt")
_LIMIT = 840  # seconds that a session may take; pytest ends a test after 900
# The ends of what has a traceback: ROLL's logs, its workers' output, the engine's among it.
_TRACEBACKS = """
cd %s/out && for log in /tmp/ray/session_latest/logs/worker-*.[eo]* */logs/*/* *.log; do
    grep -q Traceback "$log" 2>/dev/null || continue
    echo "== $log"; grep -A 60 Traceback "$log" | tail -n 60 | cut -c -300
done | head -c 20000
"""


@dataclass(frozen=True)
class Step:
    """What a step came to; `running` until it has ended."""

    outcome: str
    seconds: float
    what: str


def install(box: Box, checkout: RollCheckout) -> None:
    """Put ROLL's source and the scripts into the box."""
    box.write(f"{PLACE}/roll.tar.xz", _archive(checkout.path))
    box.run(f"python -m tarfile -e {PLACE}/roll.tar.xz {PLACE}/roll")  # the image has no xz
    for script in sorted(_INSIDE.glob("*.py")):
        box.write(f"{PLACE}/inside/{script.name}", script.read_bytes())
    box.write(f"{PLACE}/inside/sitecustomize.py", _SITE)


def _archive(root: Path) -> bytes:
    """What is run of a work tree, as it is there."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for folder in ("roll", "examples"):
            for file in sorted((root / folder).rglob("*")):
                if file.is_file() and file.suffix in _SUFFIXES:
                    archive.add(file, str(file.relative_to(root)))
    return out.getvalue()


class Session:
    """One script in the box, in the background.

    Args:
        box: the image.
        name: of the script, without `session_`.
        env: its environment.
    """

    def __init__(self, box: Box, name: str, env: Mapping[str, str]) -> None:
        self._box, self._out = box, f"{PLACE}/out/{name}"
        script = f"{PLACE}/inside/session_{name}.py"
        settings = " ".join(f"{key}='{value}'" for key, value in env.items())
        inner = f"timeout -k 20 {_LIMIT} python {script} > {self._out}.log 2>&1; "
        inner += f"echo $? > {self._out}.rc"
        box.run(f"mkdir -p {self._out}")
        box.run(f"{settings} setsid sh -c %s > /dev/null 2>&1 < /dev/null &", inner)

    def wait(self, step: str | None = None) -> Step | None:
        """Wait until a step has ended, or the whole session.

        Args:
            step: its name.

        Returns:
            What it came to; None if the session ended without it.
        """
        while True:
            ended = self._box.attempt(f"cat {self._out}.rc").rc == 0
            found = self._steps().get(step or "")
            if found is not None and (ended or found.outcome != "running"):
                return found
            if ended:
                return None
            time.sleep(_POLL)

    def _steps(self) -> dict[str, Step]:
        text = self._box.attempt(f"cat {self._out}/steps.jsonl").stdout
        lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return {
            line["step"]: Step(line["outcome"], line["seconds"], line["what"]) for line in lines
        }

    def tracebacks(self) -> str:
        """What the session's logs have of failures."""
        errors = self._box.attempt(f"tail -c 6000 {self._out}/errors.log").stdout
        end = self._box.attempt(f"tail -n 15 {self._out}.log | cut -c -300").stdout
        return f"{errors}\n{self._box.attempt(_TRACEBACKS % PLACE).stdout}\n== the end\n{end}"


def keep_logs(box: Box, folder: Path) -> None:
    """Bring all logs out of the box: `roll-logs.tar.gz`, without the models."""
    command = (
        f"cd / && tar -czf - --exclude='*.safetensors' --exclude='*.distcp' --exclude='*.pt' "
        f"{PLACE[1:]}/out $(ls -d tmp/ray/session_2*/logs 2>/dev/null) 2>/dev/null | base64 -w0"
    )
    folder.mkdir(parents=True, exist_ok=True)
    data = base64.b64decode(box.attempt(command).stdout)
    (folder / "roll-logs.tar.gz").write_bytes(data)
