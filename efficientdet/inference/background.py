"""Calls that are made while the program goes on, such as writing pictures."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any


class Background:
    """Makes calls on other threads; at most `most` of them wait or run at a time.

    What a call raises is raised by a later `call`, or when the block ends. However it ends, Ctrl-C
    too, what was called is finished first.

    Args:
        threads: one keeps the order.
        most: calls, whose arguments stay in memory until then.
    """

    def __init__(self, threads: int, most: int):
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="background")
        self._most = most
        self._waiting: deque[Future[Any]] = deque()

    def __enter__(self) -> "Background":
        return self

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Has `function(*args)` called; returns once no more than `most` are left."""
        self._waiting.append(self._pool.submit(function, *args))
        while len(self._waiting) > self._most or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits for all calls; raises what one raised, unless the block itself has failed."""
        try:
            while self._waiting and kind is None:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown()
