"""Batch buffers are reused, but never while an array refers to them."""

from __future__ import annotations

import contextlib
import gc
import glob
import os
import pathlib
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect_jax.data import batch_buffers


def test_buffers_are_reused_but_never_while_in_use():
    pool, references, addresses = batch_buffers.BufferPool(), [], []
    for step in range(60):
        image = pool.acquire((8, 4, 4, 3))
        image[:] = step
        addresses.append(image.__array_interface__["data"][0])
        if step % 3 == 0:
            references.append((step, image[2:].reshape(-1)))  # a view of a view
        elif step % 3 == 1:  # on a CPU, JAX may share the memory
            references.append((step, jax.device_put(image.reshape(2, 4, -1))))
        del image
    assert len(set(addresses)) < 60
    for step, view in references:
        assert (np.asarray(view) == step).all()


@contextlib.contextmanager
def fill_in_threads(pool, workers=2, batches=1000):
    """Fills batches in threads, like workers; yields a function that waits for a batch."""
    filled_events = [threading.Event() for _ in range(batches)]

    def fill_batches(first):
        with contextlib.suppress(RuntimeError):
            for batch in range(first, batches, workers):
                pool.acquire_slot(batch)[:] = batch % 251
                filled_events[batch].set()

    threads = [threading.Thread(target=fill_batches, args=(first,)) for first in range(workers)]
    for thread in threads:
        thread.start()

    def wait(batch):
        assert filled_events[batch].wait(timeout=60)

    try:
        yield wait
    finally:
        pool.close()  # unblocks threads that wait for a slot
        for thread in threads:
            thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)


def wait_and_take(pool, wait, batch):
    wait(batch)
    image = pool.take_batch(batch)
    assert (image == batch % 251).all()
    return image


def address(image):
    return image.__array_interface__["data"][0]


@settings(max_examples=20, deadline=None)
@given(
    in_flight=st.integers(2, 5),
    spare=st.integers(0, 3),
    shape=st.sampled_from([(2, 3), (3, 40, 40, 3)]),
    lifetimes=st.lists(st.integers(0, 30), min_size=1, max_size=60),
)
def test_a_slot_is_reused_only_when_no_array_refers_to_it(in_flight, spare, shape, lifetimes):
    """Batches stay unchanged as long as they are referenced, and no worker waits forever."""
    pool, references = batch_buffers.SharedBatchPool(in_flight, spare, shape), []
    with fill_in_threads(pool) as wait:
        for batch, lifetime in enumerate(lifetimes):
            image = wait_and_take(pool, wait, batch)
            view = image.reshape(-1)[1:]  # on a CPU, JAX may share the memory
            references.append(
                (batch, batch + lifetime, jax.device_put(image) if lifetime % 2 else view)
            )
            del image, view
            for number, _, view in references:
                assert (np.asarray(view) == number % 251).all()
            references = [entry for entry in references if entry[1] > batch]


def test_a_taken_batch_is_a_view_unless_too_many_are_referenced():
    pool = batch_buffers.SharedBatchPool(2, 3, (2, 40, 40, 3))
    first_address = address(np.frombuffer(pool._memory.buf, np.uint8))
    pool_addresses = range(first_address, first_address + pool._memory.size)
    with fill_in_threads(pool) as wait:
        assert all(
            address(wait_and_take(pool, wait, batch)) in pool_addresses for batch in range(20)
        )
        references = [wait_and_take(pool, wait, batch) for batch in range(20, 30)]
        assert [address(image) in pool_addresses for image in references] == [True] * 3 + [
            False
        ] * 7
        references.clear()
        assert address(wait_and_take(pool, wait, 30)) in pool_addresses
        assert address(wait_and_take(pool, wait, 31)) % batch_buffers.ALIGNMENT_BYTES == 0


def open_shared_memory():
    """Shared memory that this process has open or mapped."""
    files = [os.readlink(path) for path in glob.glob("/proc/self/fd/*") if os.path.islink(path)]
    maps = pathlib.Path("/proc/self/maps").read_text().splitlines()
    return [name for name in files + maps if "/dev/shm/psm_" in name]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux's /proc")
@pytest.mark.parametrize("last", ["batch", "pool"])
def test_shared_memory_is_freed_with_the_last_reference(last):
    before = open_shared_memory()
    pool = batch_buffers.SharedBatchPool(2, 1, (2, 3))
    with fill_in_threads(pool, batches=2) as wait:
        image = wait_and_take(pool, wait, 0)
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
        "pool = batch_buffers.SharedBatchPool(2, 1, (2, 3))\n"
        "pool.acquire_slot(0)[:] = 7\n"
        "batch = pool.take_batch(0)\n"
        "pool.close()\n"
        "print(batch.sum())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "42\n", "")
