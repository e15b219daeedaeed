"""Weight updates of a client that opens no session, by SGLang's real handlers."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from runtime_support import RunHandlers

from roll_runtime import weight_session

SCHEDULER = "sglang.srt.managers.scheduler"
DEMANDING = "0.5.23"
"""The release that refuses updates outside of a session."""

UPDATES = weight_session.UPDATES


@pytest.mark.parametrize("update", UPDATES)
def test_update_outside_of_a_session_is_carried_out(handle: RunHandlers, update: str) -> None:
    result = handle(DEMANDING, [(update, None), (update, None)])
    assert result["error"] is None, result["trace"]
    assert result["successes"] == [True, True]
    assert result["session"] is False


@pytest.mark.parametrize("update", UPDATES)
def test_session_of_the_client_stays_the_clients(handle: RunHandlers, update: str) -> None:
    begin, end = weight_session.BEGIN, weight_session.END
    result = handle(DEMANDING, [(begin, None), (update, None), (update, None)])
    assert (result["successes"], result["session"]) == ([True] * 3, True)
    result = handle(DEMANDING, [(begin, None), (update, None), (end, None)])
    assert (result["successes"], result["session"]) == ([True] * 3, False)


@pytest.mark.parametrize("update", UPDATES)
def test_upstream_refuses_it(handle: RunHandlers, update: str) -> None:
    """Upstream alone: what the patch is for. Keeps the tests above honest."""
    result = handle(DEMANDING, [(update, None)], ROLL_RUNTIME_AUTOLOAD="0")
    assert result["successes"] == [False]


def manager(monkeypatch: pytest.MonkeyPatch) -> Any:
    """SGLang's class in little, patched twice; it notes what is called."""
    records: Any = ModuleType("sglang.srt.managers.io_struct")
    records.BeginWeightUpdateReqInput = records.EndWeightUpdateReqInput = SimpleNamespace
    monkeypatch.setitem(sys.modules, records.__name__, records)

    class SchedulerWeightUpdaterManager:
        def __init__(self) -> None:
            self._session: str | None = None
            self.calls: list[str] = []

        def begin_weight_update(self, request: Any) -> None:
            self._session = request.selector
            self.calls.append(f"begin {request.selector}")

        def end_weight_update(self, request: Any) -> None:
            self._session = None
            self.calls.append("end")

        def update_weights_from_tensor(self, request: Any) -> None:
            self.calls.append(f"update in {self._session}")
            if request.fails:
                raise ValueError("no such weight")

    module: Any = ModuleType(SCHEDULER)
    module.SchedulerWeightUpdaterManager = SchedulerWeightUpdaterManager
    weight_session.patch_updates(module)
    weight_session.patch_updates(module)
    return SchedulerWeightUpdaterManager()


def test_session_has_the_updates_own_models_and_ends_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = manager(monkeypatch)
    made.update_weights_from_tensor(SimpleNamespace(selector="target", fails=False))
    assert made.calls == ["begin target", "update in target", "end"]


def test_session_ends_when_the_update_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    made = manager(monkeypatch)
    with pytest.raises(ValueError, match="no such weight"):
        made.update_weights_from_tensor(SimpleNamespace(selector="all", fails=True))
    assert made.calls == ["begin all", "update in all", "end"]


def test_release_without_sessions_is_left_alone() -> None:
    class SchedulerWeightUpdaterManager:
        def update_weights_from_tensor(self, request: Any) -> None: ...

    module: Any = ModuleType(SCHEDULER)
    module.SchedulerWeightUpdaterManager = SchedulerWeightUpdaterManager
    upstream = SchedulerWeightUpdaterManager.update_weights_from_tensor
    weight_session.patch_updates(module)
    assert SchedulerWeightUpdaterManager.update_weights_from_tensor is upstream
