"""Calls made while the program goes on."""

from threading import Event, Timer

import pytest

from efficientdet.inference.background import Background


def test_one_thread_keeps_the_order_and_all_is_done_at_the_end():
    done = []
    with Background(1, most=3) as background:
        for number in range(20):
            background.call(done.append, number)
    assert done == [*range(20)]


def test_no_more_than_so_many_wait():
    go, started = Event(), []
    with Background(1, most=2) as background:
        for number in range(2):
            background.call(lambda n: (started.append(n), go.wait(9)), number)
        assert len(started) <= 1  # the first one holds the thread
        Timer(0, go.set).start()
        background.call(started.append, 2)  # waits for the first
        assert go.is_set()
    assert started == [0, 1, 2]


def test_an_error_is_raised_at_the_latest_in_the_end():
    with pytest.raises(ZeroDivisionError):
        with Background(1, most=9) as background:
            background.call(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        with Background(1, most=1) as background:
            for _ in range(2):
                background.call(lambda: 1 / 0)
            pytest.fail("the second call had to wait for the first")


def test_an_interrupt_is_not_replaced_and_what_was_called_is_done():
    go, done = Event(), []
    with pytest.raises(KeyboardInterrupt):
        with Background(1, most=9) as background:
            background.call(lambda: go.wait(9) and 1 / 0)
            background.call(done.append, 1)
            go.set()
            raise KeyboardInterrupt
    assert done == [1]
