"""Ordered parallel work over files and records, in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In, Out = TypeVar("In"), TypeVar("Out")
_ITEMS_PER_WORKER = 4


def map_in_order(
    function: Callable[[In], Out], items: Iterable[In], num_workers: int | None = None
) -> Iterator[Out]:
    """`map` over threads: results in the order of `items`, at most four a worker in memory.

    Threads, not processes: reading, hashing and decoding run outside Python's lock, and so no image
    is copied from one process to another. After an error, a signal or `close()` only what a thread
    has begun is finished.

    Args:
        num_workers: None means one a core.
    """
    num_workers = num_workers or os.cpu_count() or 1
    pending: deque[Future[Out]] = deque()
    pool = ThreadPoolExecutor(num_workers)
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= _ITEMS_PER_WORKER * num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
