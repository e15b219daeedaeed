"""ROLL's package around ours: its dispatch, its strategy, its process targets."""

from __future__ import annotations

import os
import subprocess
import textwrap
from pathlib import Path

import pytest
from runtime_support import clean_environ

#: ROLL's names and what its modules do with them (roll/ at 8eb27cc2), in our own words.
ROLL = {
    "roll/__init__.py": "",
    "roll/third_party/__init__.py": "",
    "roll/third_party/sglang/__init__.py": """
        import sglang as sgl
        patch = None
        if sgl.__version__ == "0.5.2":
            from roll.third_party.sglang import own
            patch = own
        else:
            raise NotImplementedError(f"ROLL does not know {sgl.__version__}")
        """,
    "roll/third_party/sglang/own.py": "name = 'ROLL'\n",
    "roll/distributed/__init__.py": "",
    "roll/distributed/strategy/__init__.py": "",
    "roll/distributed/strategy/sglang_strategy.py": """
        from roll.third_party.sglang import patch as sglang_patch

        class SgLangStrategy:
            def __init__(self, worker_config):
                self.worker_config = worker_config

            async def initialize(self, model_provider):
                config = self.worker_config.strategy_args.strategy_config
                return config["mem_fraction_static"]

        class SglangEngine:
            def __init__(self, answer):
                self.answer = answer

            async def update_weights_from_tensor(self, payload):
                return self.answer

        def create_sampling_params_for_sglang(gen_kwargs):
            return {"n": gen_kwargs["num_return_sequences"], "stop": gen_kwargs["stop_strings"]}
        """,
    "sglang/__init__.py": "from sglang.version import __version__\n",
    "sglang/version.py": "__version__ = 'VERSION'\n",
    "sglang/srt/__init__.py": "",
    "sglang/srt/entrypoints/__init__.py": "",
    "sglang/srt/entrypoints/engine.py": """
        import signal

        def _set_envs_and_config(server_args):
            pass

        class Engine:
            def __init__(self, **kwargs):
                self.kwargs = kwargs
        """,
}


def execute(
    python: Path, folder: Path, version: str, code: str, **env: str
) -> subprocess.CompletedProcess[str]:
    for name, text in ROLL.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).replace("VERSION", version))
    return subprocess.run(
        [str(python), "-c", textwrap.dedent(code)],
        env={**clean_environ(), "PYTHONPATH": str(folder), **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


ENGINE = """
    from roll.third_party.sglang import patch
    engine = patch.engine.engine_module.Engine(tp_size=2)
    assert engine.kwargs == {"tp_size": 2, "mem_fraction_static": 0.7}
"""


@pytest.mark.parametrize("known", ["0.5.9", "0.5.23", "0.5.7.dev1+g0123abc"])
def test_stands_in_where_roll_does_not_know_the_version(
    python: Path, tmp_path: Path, known: str
) -> None:
    done = execute(python, tmp_path, known, ENGINE)
    assert done.returncode == 0, done.stderr


def test_rolls_own_answer_is_kept(python: Path, tmp_path: Path) -> None:
    code = "from roll.third_party.sglang import patch; assert patch.name == 'ROLL'"
    done = execute(python, tmp_path, "0.5.2", code)
    assert done.returncode == 0, done.stderr


def test_neither_knows_the_version(python: Path, tmp_path: Path) -> None:
    done = execute(python, tmp_path, "9.9.9", ENGINE)
    assert "NotImplementedError: ROLL does not know 9.9.9" in done.stderr


def test_strategy_gets_its_default_and_its_warning(python: Path, tmp_path: Path) -> None:
    code = """
        import asyncio
        from types import SimpleNamespace
        from roll.distributed.strategy.sglang_strategy import SgLangStrategy
        config = SimpleNamespace(
            device_mapping=[0, 1], num_gpus_per_worker=2, infer_batch_size=64,
            strategy_args=SimpleNamespace(strategy_config={}),
        )
        print(asyncio.run(SgLangStrategy(config).initialize(None)))
    """
    done = execute(python, tmp_path, "0.5.9", code)
    assert done.stdout == "0.7\n", done.stderr
    assert "infer_batch_size=64 is ignored" in done.stderr


REFUSED = """
    import asyncio
    from types import SimpleNamespace
    from roll.distributed.strategy.sglang_strategy import SgLangStrategy
    config = SimpleNamespace(
        strategy_args=SimpleNamespace(strategy_config={}),
        router_replay=SimpleNamespace(mode=MODE),
        generating_args=SimpleNamespace(stop_strings=STOP),
    )
    print(asyncio.run(SgLangStrategy(config).initialize(None)))
"""


@pytest.mark.parametrize(
    ("release", "mode", "stop", "reason"),
    [
        ("0.5.9", "disable", None, ""),
        ("0.5.9", "R3", [], ""),
        (
            "0.5.10.post1",
            "R3",
            None,
            "ValueError: router_replay.mode=R3: SGLang 0.5.10.post1 sends",
        ),
        (
            "0.5.2",
            "disable",
            ["</s>"],
            "ValueError: stop_strings=['</s>']: ROLL starts SGLang without",
        ),
    ],
)
def test_what_would_end_an_engine_or_a_job_later_is_refused_at_start(
    python: Path, tmp_path: Path, release: str, mode: str, stop: list[str] | None, reason: str
) -> None:
    code = REFUSED.replace("MODE", repr(mode)).replace("STOP", repr(stop))
    done = execute(python, tmp_path, release, code)
    assert (reason in done.stderr) if reason else (done.stdout == "0.7\n"), done.stderr


def test_update_that_sglang_did_not_carry_out_is_an_error(python: Path, tmp_path: Path) -> None:
    """ROLL's workers drop the answer."""
    code = """
        import asyncio
        from roll.distributed.strategy.sglang_strategy import SglangEngine
        done = (True, "Success")
        assert asyncio.run(SglangEngine(done).update_weights_from_tensor({})) == done
        asyncio.run(SglangEngine((False, "no such weight")).update_weights_from_tensor({}))
    """
    done = execute(python, tmp_path, "0.5.9", code)
    error = "RuntimeError: SGLang did not carry out update_weights_from_tensor: no such weight"
    assert error in done.stderr


def test_stop_strings_of_a_request_are_refused(python: Path, tmp_path: Path) -> None:
    code = """
        from roll.distributed.strategy import sglang_strategy
        create = sglang_strategy.create_sampling_params_for_sglang
        assert create({"num_return_sequences": 2, "stop_strings": None}) == {"n": 2, "stop": None}
        create(gen_kwargs={"num_return_sequences": 2, "stop_strings": ["</s>"]})
    """
    done = execute(python, tmp_path, "0.5.9", code)
    assert "ValueError: stop_strings=['</s>']" in done.stderr


def test_caches_are_settled_before_arguments_download_a_model(python: Path, tmp_path: Path) -> None:
    """As `sglang.launch_server` does it: what is downloaded then is looked for later."""
    arguments = tmp_path / "sglang" / "srt" / "server_args.py"
    arguments.parent.mkdir(parents=True)
    arguments.write_text("import os\nfound = os.environ.get('SGLANG_CACHE_DIR')\n")
    code = (
        "import os, sglang.srt.server_args as it; assert it.found == os.environ['SGLANG_CACHE_DIR']"
    )
    done = execute(python, tmp_path, "0.5.9", code, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_kill_switch_leaves_roll_alone(python: Path, tmp_path: Path) -> None:
    done = execute(python, tmp_path, "0.5.9", ENGINE, ROLL_RUNTIME_AUTOLOAD="0")
    assert "NotImplementedError: ROLL does not know 0.5.9" in done.stderr


RAY = """
    import asyncio
    import threading
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)

    @ray.remote
    class Actor:
        async def start(self):
            import signal
            import sglang.srt.entrypoints.engine as engine
            from sglang.srt.entrypoints.engine import Engine
            main = threading.current_thread() is threading.main_thread()
            try:
                signal.signal(signal.SIGUSR1, print)
                refused = False
            except ValueError:
                refused = True
            engine.signal.signal(signal.SIGQUIT, print)
            return main, refused, Engine(tp_size=1).kwargs

    print(ray.get(Actor.remote().start.remote()))
    ray.shutdown()
"""


def test_in_a_ray_actor(python: Path, tmp_path: Path) -> None:
    """A real Ray async actor: the hook is in the worker process that Ray starts."""
    site = os.environ.get("ROLL_RUNTIME_TEST_RAY")
    if not site:
        pytest.skip("set ROLL_RUNTIME_TEST_RAY to a directory where ray is installed (pip -t)")
    done = execute(
        python, tmp_path, "0.5.2", RAY, PYTHONPATH=os.pathsep.join([str(tmp_path), site])
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "(False, True, {'tp_size': 1, 'mem_fraction_static': 0.7})"
    )
