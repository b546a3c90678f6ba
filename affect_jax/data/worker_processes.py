"""Maps a function over many items in worker processes, in order, with progress reports."""

from __future__ import annotations

import collections
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
import tqdm

from affect_jax.core.errors import UserError

CHUNK_SIZE = 64
"""Items that a worker gets at once. With 16, all processes need about 5% more time per face."""

LOG_INTERVAL_SECONDS = 30
TIMEOUT_SECONDS = 200.0  # without a finished chunk; then a worker or the disk counts as hung
STARTUP_TIMEOUT_SECONDS = 300.0  # the same before the first chunk, while workers start and import

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
    chunks = split_into_chunks(items, CHUNK_SIZE)
    if num_workers == 1:
        for chunk in chunks:
            yield from function(chunk)
        return
    # Spawned, not forked: a fork copies locks held by threads of JAX or of a progress bar.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)
    earlier_processes = set(multiprocessing.active_children())
    pending: collections.deque[Future[list[Result]]] = collections.deque()
    started = False
    try:
        for chunk in chunks:
            pending.append(pool.submit(function, chunk))
            if len(pending) > 4 * num_workers:
                yield from _wait_for_first(pending, started)
                started = True
        while pending:
            yield from _wait_for_first(pending, started)
            started = True
    except _WorkerTimeout as seconds:
        for process in set(multiprocessing.active_children()) - earlier_processes:
            process.kill()  # otherwise the pool waits for it forever
        raise UserError(
            f"no face in {seconds} seconds: a worker process that prepares images hangs, or the "
            "disk that they are read from; nothing was prepared: run the same command again"
        ) from None
    except BrokenProcessPool:
        raise UserError(
            "a worker process that prepares images died, perhaps because it ran out of memory; "
            "try again with fewer workers: num_workers = 1 needs the least memory"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


class _WorkerTimeout(Exception):
    """No chunk finished within the timeout; the message is the number of seconds."""


def _wait_for_first(
    pending: collections.deque[Future[list[Result]]], started: bool
) -> list[Result]:
    """Returns the results of the first pending chunk.

    The timeout restarts whenever a later chunk finishes, because the first chunk may be slow.
    """
    first, num_done, waited_seconds = pending.popleft(), 0, 0.0
    # Waits in short intervals: a pause (Ctrl-Z, `fg`) counts as one interval at most.
    timeout_seconds = TIMEOUT_SECONDS if started else STARTUP_TIMEOUT_SECONDS
    poll_seconds = min(1.0, timeout_seconds)
    while not wait([first], timeout=poll_seconds).done:
        num_done, num_done_before = sum(chunk.done() for chunk in pending), num_done
        waited_seconds = 0.0 if num_done > num_done_before else waited_seconds + poll_seconds
        if waited_seconds >= timeout_seconds:
            raise _WorkerTimeout(f"{timeout_seconds:g}")
    return first.result()


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


def split_into_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; the last may be shorter."""
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def show_progress(
    items: Iterable[Item], total: int, name: str, counts: Mapping[str, int]
) -> Iterator[Item]:
    """Yields the items and shows a progress bar on a terminal, else prints a line every 30 seconds.

    **Arguments:**

    - `counts`: rows `read` and `skipped` so far; the caller updates it.
    """
    bar = tqdm.tqdm(items, total=total, desc=name, unit=" faces", disable=not sys.stderr.isatty())
    last_line_seconds = time.monotonic()
    for item in bar:
        yield item
        if bar.disable and time.monotonic() - last_line_seconds > LOG_INTERVAL_SECONDS:
            last_line_seconds = time.monotonic()
            print_line(
                f"{name}: {counts['read']:,} of {total:,} rows, {counts['skipped']:,} skipped"
            )


def print_line(line: str) -> None:
    """Prints a line about preparation to standard error, where progress bars go too."""
    print(line, file=sys.stderr, flush=True)
