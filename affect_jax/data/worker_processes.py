"""Maps a function over many items in worker processes, in order, with a progress bar."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
import tqdm

from affect_jax.core.errors import UserError

CHUNK_SIZE = 64
"""Items that a worker gets at once. With 16, all processes need about 5% more time per face."""

MIN_ITEMS_FOR_WORKERS = 1_000
"""With fewer faces, starting worker processes takes longer than preparing the faces."""

LOG_INTERVAL_SECONDS = 30

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_ordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    total: int,
    name: str,
    num_workers: int | None = None,
) -> Iterable[Result]:
    """Applies `function` to each item; yields the results in the order of the items.

    Progress is reported on a terminal at once, else every 30 seconds. Only a few chunks of items
    per worker are in flight, so memory does not grow with the number of items.

    **Arguments:**

    - `function`: a function at the top level of a module, or a partial of one.
    - `total`, `name`: number of items, and their name in the progress bar.
    - `num_workers`: processes; 1: this process; None: one per core if there are many items.

    **Raises:** `UserError` if a worker dies.
    """
    num_workers = num_workers or (num_cores() if total >= MIN_ITEMS_FOR_WORKERS else 1)
    if num_workers == 1:
        results: Iterable[Result] = map(function, items)
    else:
        results = _map_in_processes(function, items, num_workers)
    seconds = 0.1 if sys.stderr.isatty() else LOG_INTERVAL_SECONDS
    return tqdm.tqdm(
        results,
        name,
        total,
        unit=" faces",
        delay=seconds,
        mininterval=seconds,
        maxinterval=LOG_INTERVAL_SECONDS,
    )


def _map_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int
) -> Iterator[Result]:
    iterator = iter(items)
    window_size = 2 * num_workers * CHUNK_SIZE
    windows = iter(lambda: list(itertools.islice(iterator, window_size)), [])
    # Spawned, not forked: a fork copies locks held by threads of JAX or of a progress bar.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)
    results: Iterable[Result] = ()
    try:
        for window in windows:
            next_results = pool.map(function, window, chunksize=CHUNK_SIZE)
            yield from results
            results = next_results
        yield from results
    except BrokenProcessPool:
        raise UserError(
            "a worker process that prepares images died, perhaps because it ran out of memory; "
            "try again with fewer workers: num_workers = 1 needs the least memory"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent process, and ends the worker when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    exit_with_parent()


def exit_with_parent() -> None:
    """Makes this worker process exit when its parent process ends, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def exit_after_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_after_parent, name="parent", daemon=True).start()


def print_line(line: str) -> None:
    """Prints a line about preparation to standard error, where progress bars go too."""
    print(line, file=sys.stderr, flush=True)
