"""Batch buffers are reused, but never while an array refers to them."""

from __future__ import annotations

import contextlib
import gc
import glob
import os
import pathlib
import queue
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect_jax.data import batch_buffers


def address(image):
    return image.__array_interface__["data"][0]


@contextlib.contextmanager
def fill_in_threads(pool, workers=2, batches=1000):
    """Fills batches in threads, like workers; yields a function that takes the next batch."""
    filled = [queue.Queue(maxsize=1) for _ in range(workers)]
    numbers, closed = iter(range(batches)), threading.Event()

    def fill_batches(worker):
        with contextlib.suppress(RuntimeError):
            for batch in range(worker, batches, workers):
                slot, images = pool.acquire_slot(worker)
                images[:] = batch % 251
                while not closed.is_set():
                    with contextlib.suppress(queue.Full):
                        filled[worker].put(slot, timeout=0.05)
                        break

    def take():
        batch = next(numbers)
        image = pool.take_batch(filled[batch % workers].get(timeout=60))
        assert (image == batch % 251).all()
        return image

    threads = [threading.Thread(target=fill_batches, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield take
    finally:
        closed.set()
        pool.close()  # unblocks threads that wait for a slot
        for thread in threads:
            thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)


@settings(max_examples=20)
@given(
    workers=st.integers(0, 3),
    spare=st.integers(0, 3),
    shape=st.sampled_from([(2, 3), (3, 40, 40, 3)]),
    lifetimes=st.lists(st.integers(0, 30), min_size=1, max_size=60),
)
def test_a_slot_is_reused_only_when_no_array_refers_to_it(workers, spare, shape, lifetimes):
    """Batches stay unchanged as long as they are referenced, and no worker waits forever."""
    pool, references = batch_buffers.BatchPool(workers, 1, spare, shape), []
    with fill_in_threads(pool, max(1, workers)) as take:
        for batch, lifetime in enumerate(lifetimes):
            image = take()
            view = image.reshape(-1)[1:]
            references.append(
                (batch, batch + lifetime, jax.device_put(image) if lifetime % 2 else view)
            )
            del image, view
            for number, _, view in references:
                assert (np.asarray(view) == number % 251).all()
            references = [entry for entry in references if entry[1] > batch]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_taken_batch_is_a_view_unless_too_many_are_referenced(workers):
    pool = batch_buffers.BatchPool(workers, 2, 3, (2, 40, 40, 3))
    memory = np.frombuffer(pool._buffer(), np.uint8)
    pool_addresses = range(address(memory), address(memory) + len(memory))
    with fill_in_threads(pool, 1) as take:
        assert all(address(take()) in pool_addresses for _ in range(20))
        references = [take() for _ in range(10)]
        assert [address(image) in pool_addresses for image in references] == [True] * 3 + [
            False
        ] * 7
        references.clear()
        image = take()
        assert address(image) in pool_addresses
        assert not workers or address(image) % batch_buffers.ALIGNMENT_BYTES == 0


def open_shared_memory():
    """Shared memory that this process has open or mapped."""
    files = [os.readlink(path) for path in glob.glob("/proc/self/fd/*") if os.path.islink(path)]
    maps = pathlib.Path("/proc/self/maps").read_text().splitlines()
    return [name for name in files + maps if "/dev/shm/psm_" in name]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux's /proc")
@pytest.mark.parametrize("last", ["batch", "pool"])
def test_shared_memory_is_freed_with_the_last_reference(last):
    gc.collect()  # memory of other tests
    before = open_shared_memory()
    pool = batch_buffers.BatchPool(2, 1, 1, (2, 3))
    with fill_in_threads(pool, batches=2) as take:
        image = take()
    del take
    if last == "batch":
        del pool
        gc.collect()
        assert (image == 0).all()
        del image
    else:
        del image, pool
    gc.collect()
    assert open_shared_memory() == before


def test_a_batch_referenced_at_exit_causes_no_message():
    code = (
        "from affect_jax.data import batch_buffers\n"
        "pool = batch_buffers.BatchPool(1, 1, 1, (2, 3))\n"
        "slot, images = pool.acquire_slot(0)\n"
        "images[:] = 7\n"
        "batch = pool.take_batch(slot)\n"
        "pool.close()\n"
        "print(batch.sum())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "42\n", "")
