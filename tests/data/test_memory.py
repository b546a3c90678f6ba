"""Memory is used again, but only when nobody needs what lies there."""

from __future__ import annotations

import contextlib
import threading
from multiprocessing import shared_memory

import jax
import numpy as np
import pytest

from affect_jax.data import memory


def test_buffers_are_lent_again_but_never_while_in_use():
    buffers, kept, addresses = memory.Buffers(), [], []
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


@pytest.mark.parametrize("shape", [(2, 3), (3, 40, 40, 3)])
def test_a_slot_is_filled_again_only_when_it_was_emptied(shape):
    slots = memory.Slots(3, shape)
    filled = threading.Semaphore(0)

    def work():
        with contextlib.suppress(RuntimeError):
            for batch in range(1000):
                slots.fill(batch)[:] = batch
                filled.release()

    worker = threading.Thread(target=work)
    worker.start()
    image = np.empty(shape, np.uint8)
    for batch in range(20):
        assert filled.acquire(timeout=60)
        slots.empty(batch, image)
        assert (image == batch).all()
    slots.close()  # where it waits for its turn
    worker.join(timeout=60)
    assert not worker.is_alive()
    with pytest.raises(FileNotFoundError):
        shared_memory.SharedMemory(slots._memory.name)
