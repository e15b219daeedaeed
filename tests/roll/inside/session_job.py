"""A whole job: ROLL's own start script of its RLVR pipeline, two training steps, one device.

The script is run as it is. What is ours is the configuration and the data that it reads, and what
the pipeline is asked after `run()`: one more model update, by its own methods, as its next step
would begin; then the engine must answer as a CPU with the checkpoint that the trainer saved.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kit_processes
import kit_tiny
from kit_cluster import get
from kit_reference import Reference, read_weights
from kit_settings import Where, document, prepare
from kit_start import check_imports
from kit_steps import Steps, leave

from roll_runtime import smoke_model

_STEPS = 2
_SCRIPT = "examples/start_rlvr_pipeline.py"


class Job:
    """The job, from outside of ROLL's script.

    Args:
        where: the session.
        steps: its steps.
    """

    def __init__(self, where: Where, steps: Steps) -> None:
        self._where, self._steps = where, steps
        self._pipeline: Any = None
        self._before: dict[str, Any] = {}

    def configure(self) -> str:
        """Write the YAML file and the data."""
        import yaml

        kit_tiny.write_data(self._where.out / "data.jsonl")
        folder = self._where.out / "job"
        folder.mkdir(exist_ok=True)
        quiet = {"hydra": {"run": {"dir": "."}, "output_subdir": None}}
        text = yaml.safe_dump({**quiet, **document(self._where)}, sort_keys=False)
        (folder / "job.yaml").write_text(text)
        return f"{kit_tiny.PROMPTS} prompts, {_STEPS} steps"

    def run_script(self) -> None:
        """Run ROLL's script; its pipeline's class is ours, which only reports the steps."""
        import roll.pipeline.rlvr.rlvr_pipeline as module

        job, steps = self, self._steps
        original: Any = module.RLVRPipeline

        class Pipeline(original):  # type: ignore[misc]
            """ROLL's, reported step by step."""

            def __init__(self, pipeline_config: Any) -> None:
                job._pipeline = self
                build = super().__init__
                steps.run(
                    "a_job_starts_trainer_engine_and_reward",
                    lambda: build(pipeline_config=pipeline_config),
                    limit=420,
                    vital=True,
                )

            def run(self) -> None:
                train = super().run
                steps.run("a_job_trains_two_steps", lambda: train(), limit=300, vital=True)
                job.prove()

        module.RLVRPipeline = Pipeline
        script = Path(os.environ["ROLL_TEST_CHECKOUT"], _SCRIPT)
        folder = os.path.relpath(self._where.out / "job", script.parent)
        sys.argv = [str(script), "--config_path", folder, "--config_name", "job"]
        runpy.run_path(str(script), run_name="__main__")
        assert not steps.stopped, "a step in it failed"

    def prove(self) -> None:
        """What must hold after the job."""
        steps = self._steps
        steps.run("its_rewards_and_gradients_are_numbers", self._check_metrics)
        steps.run("its_checkpoint_has_new_weights", self._check_checkpoint)
        steps.run("the_engine_follows_the_new_weights", self._check_engine, limit=240)

    def _history(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = self._pipeline.state.log_history
        return found

    def _check_metrics(self) -> str:
        history = self._history()
        (self._where.out / "metrics.json").write_text(json.dumps(history, default=str, indent=1))
        assert len(history) == _STEPS, f"{len(history)} steps are logged"
        summary = []
        for index, metrics in enumerate(history):
            norm = _one(metrics, "actor_train/grad_norm")
            score = _one(metrics, "critic/score/mean")
            assert 0 < norm < 1e6, f"step {index}: gradient norm {norm}"
            assert 0 <= score <= 1, f"step {index}: mean reward {score}"
            summary.append(f"step {index}: reward {score:.2f}, gradient norm {norm:.3f}")
        return "; ".join(summary)

    def _folder(self) -> Path:
        """The trainer's last checkpoint."""
        name = f"checkpoint-{_STEPS - 1}"
        found = sorted(
            file.parent
            for file in self._where.out.rglob("*.safetensors")
            if name in str(file.relative_to(self._where.out))
        )
        assert found, f"no {name} below {self._where.out}"
        return found[0]

    def _check_checkpoint(self) -> str:
        old, new = read_weights(self._where.model), read_weights(self._folder())
        moved = {
            name: float((new[name].float() - value.float()).abs().max())
            for name, value in old.items()
            if name in new
        }
        assert moved, f"no weight in common: {sorted(new)[:4]}"
        still = [name for name, change in moved.items() if change == 0]
        assert not still, f"not trained: {still}"
        return f"{len(moved)} tensors moved, by {max(moved.values()):.4f} at most"

    def _check_engine(self) -> str:
        pipeline = self._pipeline
        pipeline.model_update(_STEPS)
        pipeline.actor_infer.load_states(blocking=True)
        answer = self._ask()
        tokens, logprobs = answer["output_token_ids"][0], answer["output_logprobs"][0]
        prompt = smoke_model.PROMPT
        new = Reference(self._folder()).compare(prompt, tokens, logprobs)
        old = Reference(self._where.model).compare(prompt, tokens, logprobs)
        assert new.close, f"the engine has not the trainer's weights: {new}"
        assert not old.close, f"the engine has the weights of the begin: {old}"
        return f"tokens {tokens}: {new}; with the weights of the begin: {old}"

    def _ask(self) -> Mapping[str, Any]:
        from roll.distributed.strategy import sglang_strategy

        given = self._pipeline.get_generation_config()
        given |= {"eos_token_id": [2, 0], "pad_token_id": 0}
        given |= {"max_new_tokens": 8, "temperature": 0.0, "num_return_sequences": 1}
        payload = {
            "input_ids": list(smoke_model.PROMPT),
            "rid": "follows",
            "sampling_params": sglang_strategy.create_sampling_params_for_sglang(given),
            "return_logprob": True,
        }
        answer: Mapping[str, Any] = get(
            self._pipeline.actor_infer.workers[0].generate_request.remote(payload)
        )
        return answer


def _one(metrics: Mapping[str, Any], name: str) -> float:
    """A metric, whatever stands before or behind its name."""
    found = [value for key, value in metrics.items() if name in key]
    assert found, f"no {name} among {sorted(metrics)}"
    return float(found[0])


def main() -> int:
    """Run the session and return the exit code."""
    where = prepare("job")
    steps = Steps(where.out)
    job = Job(where, steps)
    steps.run("a_jobs_modules_are_imported", check_imports, limit=240, vital=True)
    steps.run("a_job_is_configured", job.configure, vital=True)
    try:
        if not steps.stopped:
            # Its steps have limits of their own; this one is for what is between them.
            steps.run("rolls_start_script_ends", job.run_script, limit=1200)
    finally:
        steps.run("a_jobs_ray_stops", kit_processes.stop_ray, always=True, watched=False)
        steps.run(
            "a_job_leaves_no_process", kit_processes.need_no_engine, always=True, watched=False
        )
    return int(steps.failed > 0)


if __name__ == "__main__":
    leave(main())
