"""Work on many items in several processes, in order; and how far it has come."""

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

CHUNK = 64
"""Items handed to a worker at once: of 16 a face took all processes some 5% more time."""

SECONDS_BETWEEN_LINES = 30
PATIENCE_SECONDS = 200.0  # without a chunk, after which a worker or the disk counts as hung
STARTING_SECONDS = 300.0  # the same until the first, in which workers start and import

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    function: Callable[[list[Item]], list[Result]], items: Iterable[Item], *, num_workers: int
) -> Iterator[Result]:
    """`function` over chunks of items, in this process or in several; results in the items' order.

    Only a few chunks a worker are under way at a time, so memory does not grow with the items.

    **Arguments:**

    - `function`: of a module's top level, or a partial of one; a result for each item.

    **Raises:** `UserError` when a worker dies or hangs.
    """
    chunks = chunked(items, CHUNK)
    if num_workers == 1:
        for chunk in chunks:
            yield from function(chunk)
        return
    # Spawned, not forked: a fork copies the locks of threads that JAX or a progress bar holds.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)
    others = set(multiprocessing.active_children())
    pending: collections.deque[Future[list[Result]]] = collections.deque()
    started = False
    try:
        for chunk in chunks:
            pending.append(pool.submit(function, chunk))
            if len(pending) > 4 * num_workers:
                yield from _first(pending, started)
                started = True
        while pending:
            yield from _first(pending, started)
            started = True
    except _Hangs as hangs:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()  # else the pool would wait for it without end
        raise UserError(
            f"no face in {hangs} seconds: a worker process that prepares images, or "
            "the disk that they are read from, hangs; nothing was prepared: start again"
        ) from None
    except BrokenProcessPool:
        raise UserError(
            "a worker process that prepares images died, perhaps for want of memory; "
            "try again with fewer: num_workers = 1 needs the least"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


class _Hangs(Exception):
    """No chunk was done in so many seconds."""


def _first(pending: collections.deque[Future[list[Result]]], started: bool) -> list[Result]:
    """The first chunk's results. While others are done, all is well: it may be a heavy one."""
    first, done, waited = pending.popleft(), 0, 0.0
    # In turns of a second: a process stopped by Ctrl-Z wakes up with one turn gone, not all.
    patience = PATIENCE_SECONDS if started else STARTING_SECONDS
    turn = min(1.0, patience)
    while not wait([first], timeout=turn).done:
        done, before = sum(chunk.done() for chunk in pending), done
        waited = 0.0 if done > before else waited + turn
        if waited >= patience:
            raise _Hangs(f"{patience:g}")
    return first.result()


def _start_worker() -> None:
    """Ctrl-C is the parent's to handle; a worker ends when its parent does, however that died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    end_with_parent()


def end_with_parent() -> None:
    """In a worker: ends it with the process that started it, even where that one was killed."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, name="parent", daemon=True).start()


def chunked(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; the last may be shorter."""
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def with_progress(
    found: Iterable[Item], total: int, name: str, counts: Mapping[str, int]
) -> Iterator[Item]:
    """A bar where a person watches, else a line every half minute.

    **Arguments:**

    - `counts`: `read` and `skipped` until now; the caller keeps them.
    """
    bar = tqdm.tqdm(found, total=total, desc=name, unit=" faces", disable=not sys.stderr.isatty())
    last = time.monotonic()
    for item in bar:
        yield item
        if bar.disable and time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{name}: {counts['read']:,} of {total:,} rows, {counts['skipped']:,} skipped")


def say(line: str) -> None:
    """A line about preparation, where progress bars go too: standard error."""
    print(line, file=sys.stderr, flush=True)
