"""The order in which the images of a kit are proven."""

from __future__ import annotations

import threading

from images.export.kit.queue import Queue


def test_numbers_come_in_order_and_once() -> None:
    queue = Queue([2, 0, 1])
    assert [queue.take(), queue.take(), queue.take(), queue.take()] == [2, 0, 1, None]


def test_what_was_put_back_comes_again_once_another_is_done() -> None:
    queue = Queue([0, 1, 2])
    assert queue.take() == 0
    queue.put_back(0)
    assert queue.take() == 1
    queue.done()
    assert queue.take() == 0
    queue.put_back(0)
    assert queue.take() == 2
    queue.put_back(2)
    assert queue.take() is None  # nothing is done meanwhile: nothing can have changed


def test_what_was_put_back_comes_again_while_another_is_proven() -> None:
    queue = Queue([0, 1], again=0.05)
    assert queue.take() == 0
    assert queue.take() == 1
    queue.put_back(1)
    assert queue.take() == 1


def test_a_thread_waits_for_what_another_has_taken() -> None:
    queue = Queue([0, 1])
    assert queue.take() == 0
    found: list[int | None] = []

    def other() -> None:
        while (number := queue.take()) is not None:
            found.append(number)
            queue.put_back(number) if len(found) == 1 else queue.done()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(0.3)
    assert (thread.is_alive(), found) == (True, [1])
    queue.done()
    thread.join()
    assert found == [1, 1]
