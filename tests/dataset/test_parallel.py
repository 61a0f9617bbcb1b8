"""Ordered threads in bounded memory."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from efficientdet.dataset import parallel
from efficientdet.dataset.parallel import map_in_order


def test_results_keep_their_order_whatever_finishes_first():
    later = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert later.wait(10), "the second item never ran beside the first"
        if number == 1:
            later.set()
        return number * number

    assert list(map_in_order(work, range(20), num_workers=2)) == [n * n for n in range(20)]


def test_at_most_four_items_a_worker_are_taken_ahead():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = map_in_order(lambda number: number, items(), num_workers=3)
    assert next(results) == 0 and len(taken) == 12
    assert list(results) == list(range(1, 100))


def test_an_error_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(map_in_order(lambda number: 1 // number, [1, 0, 1]))


def test_closed_early_it_begins_nothing_more(monkeypatch):
    begun, closed = [], threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            closed.set()
            super().shutdown()

    def work(number: int) -> int:
        begun.append(number)
        assert number == 0 or closed.wait(10)
        return number

    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Pool)
    results = map_in_order(work, range(100), num_workers=1)
    assert next(results) == 0
    results.close()
    assert begun in ([0], [0, 1])
