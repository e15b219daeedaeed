"""ROLL's HTTP mode; see session_http.py."""

from __future__ import annotations

from collections.abc import Callable

SESSION = "http"


def test_http_modules_are_imported(passes: Callable[[], None]) -> None:
    passes()


def test_http_ray_starts(passes: Callable[[], None]) -> None:
    passes()


def test_http_cluster_is_made(passes: Callable[[], None]) -> None:
    passes()


def test_http_server_starts(passes: Callable[[], None]) -> None:
    passes()


def test_http_server_answers(passes: Callable[[], None]) -> None:
    passes()


def test_http_actor_ends(passes: Callable[[], None]) -> None:
    passes()


def test_http_leaves_no_process(passes: Callable[[], None]) -> None:
    passes()


def test_http_ray_stops(passes: Callable[[], None]) -> None:
    passes()
