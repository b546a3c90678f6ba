"""Memory is used again, but only when nobody needs what lies there."""

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


def test_buffers_are_lent_again_but_never_while_in_use():
    buffers, kept, addresses = batch_buffers.Buffers(), [], []
    for step in range(60):
        image = buffers.take((8, 4, 4, 3))
        image[:] = step
        addresses.append(image.__array_interface__["data"][0])
        if step % 3 == 0:
            kept.append((step, image[2:].reshape(-1)))  # a view of a view
        elif step % 3 == 1:  # on a CPU JAX may look into the same memory
            kept.append((step, jax.device_put(image.reshape(2, 4, -1))))
        del image
    assert len(set(addresses)) < 60
    for step, view in kept:
        assert (np.asarray(view) == step).all()


@contextlib.contextmanager
def filled(slots, workers=2, batches=1000):
    """Threads that fill slots with their own batches, as workers; gives a way to wait for one."""
    done = [threading.Event() for _ in range(batches)]

    def work(first):
        with contextlib.suppress(RuntimeError):
            for batch in range(first, batches, workers):
                slots.fill(batch)[:] = batch % 251
                done[batch].set()

    threads = [threading.Thread(target=work, args=(first,)) for first in range(workers)]
    for thread in threads:
        thread.start()

    def wait(batch):
        assert done[batch].wait(timeout=60)

    try:
        yield wait
    finally:
        slots.close()  # where they wait for a slot
        for thread in threads:
            thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)


def taken(slots, wait, batch):
    wait(batch)
    image = slots.take(batch)
    assert (image == batch % 251).all()
    return image


def place(image):
    return image.__array_interface__["data"][0]


@settings(max_examples=20, deadline=None)
@given(
    ahead=st.integers(2, 5),
    lent=st.integers(0, 3),
    shape=st.sampled_from([(2, 3), (3, 40, 40, 3)]),
    ages=st.lists(st.integers(0, 30), min_size=1, max_size=60),
)
def test_a_slot_is_filled_again_only_when_nothing_looks_into_it(ahead, lent, shape, ages):
    """Whatever is kept, and for however many batches, stays as it is, and nobody waits for ever."""
    slots, kept = batch_buffers.Slots(ahead, lent, shape), []
    with filled(slots) as wait:
        for batch, age in enumerate(ages):
            image = taken(slots, wait, batch)
            view = image.reshape(-1)[1:]  # JAX may look into the same memory, on a CPU
            kept.append((batch, batch + age, jax.device_put(image) if age % 2 else view))
            del image, view
            for number, _, view in kept:
                assert (np.asarray(view) == number % 251).all()
            kept = [entry for entry in kept if entry[1] > batch]


def test_a_batch_that_is_taken_is_its_slot_unless_too_many_are_kept():
    slots = batch_buffers.Slots(2, 3, (2, 40, 40, 3))
    begin = place(np.frombuffer(slots._memory.buf, np.uint8))
    inside = range(begin, begin + slots._memory.size)
    with filled(slots) as wait:
        assert all(place(taken(slots, wait, batch)) in inside for batch in range(20))
        kept = [taken(slots, wait, batch) for batch in range(20, 30)]
        assert [place(image) in inside for image in kept] == [True] * 3 + [False] * 7
        kept.clear()
        assert place(taken(slots, wait, 30)) in inside
        assert place(taken(slots, wait, 31)) % batch_buffers.ALIGNMENT == 0


def open_memory():
    """Shared memory that a file of this process keeps, and that it looks into."""
    files = [os.readlink(path) for path in glob.glob("/proc/self/fd/*") if os.path.islink(path)]
    maps = pathlib.Path("/proc/self/maps").read_text().splitlines()
    return [name for name in files + maps if "/dev/shm/psm_" in name]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="Linux tells what is open")
@pytest.mark.parametrize("last", ["batch", "slots"])
def test_slots_go_with_the_last_who_looks_into_them(last):
    before = open_memory()
    slots = batch_buffers.Slots(2, 1, (2, 3))
    with filled(slots, batches=2) as wait:
        image = taken(slots, wait, 0)
    if last == "batch":
        del slots
        gc.collect()
        assert (image == 0).all()
        del image
    else:
        del image, slots
    gc.collect()
    assert open_memory() == before


def test_a_batch_that_is_kept_to_the_end_ends_in_silence():
    code = (
        "from affect_jax.data import memory\n"
        "slots = memory.Slots(2, 1, (2, 3))\n"
        "slots.fill(0)[:] = 7\n"
        "kept = slots.take(0)\n"
        "slots.close()\n"
        "print(kept.sum())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "42\n", "")
