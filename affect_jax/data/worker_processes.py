"""Maps a function over many items in worker processes, in order, with progress reports."""

from __future__ import annotations

import collections
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
import tqdm

from affect_jax.core.errors import UserError

CHUNK_SIZE = 64
"""Items that a worker gets at once. With 16, all processes need about 5% more time per face."""

LOG_INTERVAL_SECONDS = 30
TIMEOUT_SECONDS = 300  # for a chunk, which takes a second, and for the start of the workers

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_ordered(
    function: Callable[[list[Item]], list[Result]], items: Iterable[Item], *, num_workers: int
) -> Iterator[Result]:
    """Applies `function` to chunks of items and yields the results in the order of the items.

    With one worker it runs in this process, else in `num_workers` processes. Only a few chunks per
    worker are in flight, so memory does not grow with the number of items.

    **Arguments:**

    - `function`: a function at the top level of a module, or a partial of one; it returns one
      result per item.

    **Raises:** `UserError` if a worker dies or hangs.
    """
    iterator = iter(items)
    chunks = iter(lambda: list(itertools.islice(iterator, CHUNK_SIZE)), [])
    if num_workers == 1:
        for chunk in chunks:
            yield from function(chunk)
        return
    # Spawned, not forked: a fork copies locks held by threads of JAX or of a progress bar.
    context = multiprocessing.get_context("spawn")
    earlier_processes = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)
    pending: collections.deque[Future[list[Result]]] = collections.deque()
    try:
        for chunk in chunks:
            pending.append(pool.submit(function, chunk))
            if len(pending) > 4 * num_workers:
                yield from _wait_for(pending.popleft())
        while pending:
            yield from _wait_for(pending.popleft())
    except TimeoutError:
        for process in set(multiprocessing.active_children()) - earlier_processes:
            process.kill()  # otherwise the pool waits for it forever
        raise UserError(
            f"no face in {TIMEOUT_SECONDS} seconds: a worker process that prepares images hangs, or"
            " the disk that they are read from; nothing was prepared: run the same command again"
        ) from None
    except BrokenProcessPool:
        raise UserError(
            "a worker process that prepares images died, perhaps because it ran out of memory; "
            "try again with fewer workers: num_workers = 1 needs the least memory"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _wait_for(chunk: Future[list[Result]]) -> list[Result]:
    """Returns the results of a chunk. **Raises:** `TimeoutError` after `TIMEOUT_SECONDS`."""
    for _ in range(TIMEOUT_SECONDS):  # so that a pause (Ctrl-Z, `fg`) counts as one second
        if wait([chunk], timeout=1).done:
            return chunk.result()
    raise TimeoutError


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


def show_progress(items: Iterable[Item], total: int, name: str) -> Iterable[Item]:
    """Yields the items and reports progress: on a terminal at once, else every 30 seconds."""
    seconds = 0.1 if sys.stderr.isatty() else LOG_INTERVAL_SECONDS
    return tqdm.tqdm(
        items,
        name,
        total,
        unit=" faces",
        delay=seconds,
        mininterval=seconds,
        maxinterval=LOG_INTERVAL_SECONDS,
    )


def print_line(line: str) -> None:
    """Prints a line about preparation to standard error, where progress bars go too."""
    print(line, file=sys.stderr, flush=True)
