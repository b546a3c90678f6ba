"""Data loader: deterministic batches, memory reuse, failing workers, caching and prefetching."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import psutil
import pytest
import simplejpeg

from affect_jax.core.batch import Batch, make_targets
from affect_jax.core.errors import UserError
from affect_jax.data import loader, sampling
from tests.batches import check_batch

SIDE, FACES = 16, 53


class Faces:
    """Records of faces whose single colour encodes the row; `damaged` maps rows to other bytes."""

    def __init__(self, count: int = FACES, damaged: dict[int, bytes] | None = None):
        self._count, self._damaged = count, damaged or {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> dict:
        assert row in self._damaged, "the whole record was read, though only its image is needed"
        return {"id": f"faces/{row}.jpg".encode()}

    def read_jpeg(self, row: int) -> bytes:
        pixels = np.full((SIDE, SIDE, 3), (4 * row, 255 - 4 * row, 128), np.uint8)
        jpeg = simplejpeg.encode_jpeg(pixels, quality=95, colorsubsampling="444")
        return self._damaged.get(row, jpeg)


def targets(count: int = FACES) -> Batch:
    valence = np.linspace(-1, 1, count)
    return make_targets(
        {"expression": np.arange(count) % 9, "valence": valence, "arousal": -valence}
    )


def training_rows(batch_size: int = 8) -> sampling.TrainingRows:
    sampler = sampling.SAMPLERS.create({"name": "up"})
    return sampling.TrainingRows(sampler, np.arange(FACES) % 5, seed=7, batch_size=batch_size)


def collect(rows, images=None, **options) -> list[Batch]:
    images = Faces() if images is None else images
    batches = loader.load_batches(images, targets(), rows, image_size=SIDE, **options)
    try:
        return list(batches)
    finally:
        batches.close()


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


@pytest.fixture(scope="module")
def reference() -> list[Batch]:
    """Three epochs, decoded by this fixture one face at a time."""
    rows, faces, labels = training_rows(), Faces(), targets()
    result = []
    for step in range(3 * rows.steps_per_epoch):
        index = rows[step]
        images = [simplejpeg.decode_jpeg(faces.read_jpeg(row), "RGB") for row in index]
        masks = {name: values[index] for name, values in labels.items()}
        valid = np.ones(len(index), bool)
        result.append({"index": index, "valid": valid, **masks, "image": np.stack(images)})
    return result


def test_batches_follow_the_order_of_the_sampler(reference):
    batches = collect(training_rows(), stop=len(reference))
    for batch in batches:
        check_batch(batch)
    assert_equal(batches, reference)


@pytest.mark.parametrize("start", [1, 12, 13, 30])
def test_any_start_gives_the_same_batches(reference, start):
    batches = collect(training_rows(), start=start, stop=len(reference))
    assert_equal(batches, reference[start:])


def test_a_distant_start_costs_nothing():
    begin = time.perf_counter()
    step = 10**9
    batches = collect(training_rows(), start=step, stop=step + 2)
    assert time.perf_counter() - begin < 2
    np.testing.assert_array_equal(batches[1]["index"], training_rows()[step + 1])


def test_worker_processes_give_the_same_batches(reference):
    batches = collect(training_rows(), start=9, stop=len(reference), num_workers=2)
    assert_equal(batches, reference[9:])
    assert not multiprocessing.active_children()


def test_decoded_faces_give_the_same_batches(reference):
    faces = loader.decode_split(Faces(), image_size=SIDE)
    assert faces.shape == (FACES, SIDE, SIDE, 3)
    assert_equal(collect(training_rows(), faces, stop=len(reference)), reference)
    all_rows = sampling.SequentialRows(FACES, 8)
    assert_equal(collect(all_rows, faces), collect(all_rows))


@pytest.mark.parametrize("processes", [2, 4])
def test_slices_of_all_processes_form_the_global_batches(reference, processes):
    parts = [
        collect(training_rows(), stop=6, process_index=p, process_count=processes)
        for p in range(processes)
    ]
    global_batches = [
        {name: np.concatenate([batch[name] for batch in step]) for name in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_equal(global_batches, reference[:6])


@pytest.mark.parametrize("batch_size", [1, 8, FACES, 64])
def test_evaluation_loads_every_face_once_and_pads(batch_size):
    batches = collect(sampling.SequentialRows(FACES, batch_size))
    rows = np.concatenate([batch["index"][batch["valid"]] for batch in batches])
    np.testing.assert_array_equal(rows, np.arange(FACES))
    for batch in batches:
        check_batch(batch)
        assert len(batch["valid"]) == batch_size
        assert not batch["image"][~batch["valid"]].any()


DAMAGE = {
    "truncated": Faces().read_jpeg(3)[:200],
    "empty": b"",
    "other": b"not a JPEG at all",
    "too large": simplejpeg.encode_jpeg(np.zeros((SIDE + 8, SIDE, 3), np.uint8)),
    "too small": simplejpeg.encode_jpeg(np.zeros((SIDE, SIDE - 8, 3), np.uint8)),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("damage", DAMAGE)
def test_error_names_a_damaged_record(damage):
    faces = Faces(damaged={11: DAMAGE[damage]})
    with pytest.raises(UserError, match=r"record 11 \(faces/11.jpg\): its image cannot"):
        collect(sampling.SequentialRows(FACES, 8), faces)


class FacesWithoutMemory(Faces):
    """Faces for whose JPEG there is too little memory from row 20 on."""

    def read_jpeg(self, row: int) -> bytes:
        return super().read_jpeg(row) if row < 20 else bytes(1 << 60)


@pytest.mark.bad_input
@pytest.mark.parametrize("workers", [0, 1])
def test_out_of_memory_while_decoding_is_an_error(record_property, workers):
    """`main` explains the error. With a worker, this also shows that its errors arrive."""
    with pytest.raises(MemoryError):
        collect(sampling.SequentialRows(FACES, 8), FacesWithoutMemory(), num_workers=workers)
    record_property("fault", ("a loading worker is out of memory", "one error", 0))


def test_too_little_shared_memory_is_an_error(monkeypatch):
    disk = types.SimpleNamespace(free=1 << 10)
    monkeypatch.setattr(psutil, "disk_usage", lambda folder: disk)
    with pytest.raises(UserError, match="num_workers = 2: too little shared memory .*0 MiB"):
        collect(training_rows(), num_workers=2, stop=1)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["SIGKILL", pytest.param("SIGSTOP", marks=pytest.mark.slow)])
def test_a_worker_that_dies_or_hangs_is_an_error(record_property, monkeypatch, name):
    monkeypatch.setattr(loader, "TIMEOUT_SECONDS", 4)
    batches = loader.load_batches(
        Faces(), targets(), training_rows(), image_size=SIDE, num_workers=1
    )
    next(batches)  # however long the worker takes to start on a busy machine
    with contextlib.closing(loader.Prefetcher(batches, lambda batch: batch)) as prefetched:
        next(prefetched)
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, getattr(signal, name))
        with pytest.raises(UserError, match="worker"):
            for _ in range(10**6):
                next(prefetched)
    assert not multiprocessing.active_children()
    record_property("fault", ("a loading worker dies or hangs", "one error, no orphans", 0))


@pytest.mark.fault
def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import multiprocessing, os, signal\n"
        "from affect_jax.data import loader, sampling\n"
        "if __name__ == '__main__':\n"
        "    class Faces(list):\n"
        "        def read_jpeg(self, row): return self[row]\n"
        "    import simplejpeg, numpy as np\n"
        "    faces = Faces([simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))] * 8)\n"
        "    sampler = sampling.NoResampling()\n"
        "    rows = sampling.TrainingRows(sampler, np.zeros(8), seed=0, batch_size=2)\n"
        "    batches = loader.load_batches(faces, {}, rows, image_size=16, num_workers=1)\n"
        "    next(batches)\n"
        "    print(batches._pool._shared.name)\n"
        "    print(*[child.pid for child in multiprocessing.active_children()], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = [sys.executable, str(script)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}, text=True
    )
    assert process.stdout is not None
    shared_memory_name = process.stdout.readline().strip()
    workers = [int(pid) for pid in process.stdout.readline().split()]
    process.wait(timeout=20)
    process.stdout.close()
    assert len(workers) == 1
    deadline = time.monotonic() + 10
    while psutil.pid_exists(workers[0]) and time.monotonic() < deadline:
        if psutil.Process(workers[0]).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    # On Linux, shared memory is a file; Python's resource tracker removes it.
    while os.path.exists(f"/dev/shm/{shared_memory_name}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert time.monotonic() < deadline


def test_importing_the_loader_starts_no_device():
    # Every worker process imports it.
    code = (
        "import sys; import affect_jax.data.loader; "
        "assert 'tensorflow' not in sys.modules; "
        "bridge = sys.modules.get('jax._src.xla_bridge'); "
        "assert bridge is None or not bridge._backends"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("cache", "host", "devices", "expected"),
    [
        ("none", 0, None, "none"),
        ("host", 10**6, None, "host"),
        ("device", 10**6, None, "device"),
        ("device", 0, 10**6, "device"),
        ("auto", 10**6, None, "host"),  # devices share the host's memory
        ("auto", 2 * 100 * 768, None, "host"),
        ("auto", 2 * 100 * 768 - 1, None, "none"),
        ("auto", 0, 125 * 768, "device"),
        ("auto", 0, 125 * 768 - 1, "none"),
        ("auto", 10**6, 125 * 768 - 1, "host"),
    ],
)
def test_auto_uses_a_fraction_of_free_memory(monkeypatch, cache, host, devices, expected):
    monkeypatch.setattr(loader, "available_bytes", lambda: host)
    chosen, sizes = loader.choose_cache(cache, 100, SIDE, devices)
    assert chosen == expected
    assert sizes.startswith("0.0 GiB of decoded faces; free: device 0.0 GiB")


@pytest.mark.parametrize(
    ("cache", "host", "devices"),
    [("host", 1000, 10**6), ("device", 10**6, 1000), ("device", 1000, None)],
)
def test_cache_larger_than_memory_is_an_error(monkeypatch, cache, host, devices):
    monkeypatch.setattr(loader, "available_bytes", lambda: host)
    with pytest.raises(UserError, match=f"data.cache = '{cache}'"):
        loader.choose_cache(cache, 100, SIDE, devices)


def test_available_bytes_do_not_exceed_total_memory():
    assert 0 < loader.available_bytes() <= psutil.virtual_memory().total


def test_threads_are_limited_by_cores_and_memory(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    batch_bytes = 256 * 256 * 256 * 3
    assert loader.num_threads(1, 0) == loader.MAX_THREADS
    assert loader.num_threads(1, 16) == 4
    assert loader.num_threads(4 * batch_bytes, 0) * 4 * batch_bytes <= loader.MAX_PREFETCH_BYTES
    assert loader.num_threads(10 * loader.MAX_PREFETCH_BYTES, 0) == 1


def test_prefetch_yields_every_item_transferred_and_in_order():
    with contextlib.closing(loader.Prefetcher(range(50), lambda item: item * 2)) as prefetched:
        assert list(prefetched) == [2 * item for item in range(50)]
        assert next(prefetched, None) is None
    assert not prefetched._thread.is_alive()


def test_prefetch_is_limited_by_its_depth():
    transferred: list[int] = []

    def transfer(item: int) -> int:
        transferred.append(item)
        return item

    with contextlib.closing(loader.Prefetcher(iter(range(100)), transfer, depth=3)) as prefetched:
        deadline = time.monotonic() + 5
        while len(transferred) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(transferred) == 4  # three wait in the queue, the thread holds one
        assert next(prefetched) == 0
    assert not prefetched._thread.is_alive()


def test_prefetch_counts_the_time_it_waited():
    def yield_slowly():
        for item in range(3):
            time.sleep(0.1)
            yield item

    with contextlib.closing(loader.Prefetcher(yield_slowly(), lambda item: item)) as prefetched:
        list(prefetched)
        assert 0.2 < prefetched.waited_seconds < 1
    with contextlib.closing(loader.Prefetcher(range(3), lambda item: item, depth=3)) as prefetched:
        time.sleep(0.2)
        list(prefetched)
        assert prefetched.waited_seconds < 0.1


@pytest.mark.parametrize("source", ["iterator", "transfer"])
def test_prefetch_raises_errors_of_iterator_and_transfer(source):
    def items():
        yield 1
        if source == "iterator":
            raise KeyError("broken")
        yield 2

    def transfer(item: int) -> int:
        if item == 2:
            raise KeyError("broken")
        return item

    with contextlib.closing(loader.Prefetcher(items(), transfer)) as prefetched:
        assert next(prefetched) == 1
        with pytest.raises(KeyError, match="broken"):
            next(prefetched)
        with pytest.raises(StopIteration):
            next(prefetched)
    assert not prefetched._thread.is_alive()


def test_prefetch_closes_its_iterator_and_can_be_closed_twice():
    batches = loader.load_batches(Faces(), targets(), training_rows(), image_size=SIDE)
    prefetched = loader.Prefetcher(batches, lambda batch: batch)
    next(prefetched)
    prefetched.close()
    prefetched.close()
    batches.close()
    assert next(batches, None) is None
    assert not prefetched._thread.is_alive()


def test_prefetch_raises_if_its_iterator_hangs(monkeypatch):
    monkeypatch.setattr(loader, "TIMEOUT_SECONDS", 1)
    release = threading.Event()

    def yield_and_hang():
        yield 1
        release.wait(20)

    prefetched = loader.Prefetcher(yield_and_hang(), lambda item: item)
    assert next(prefetched) == 1
    threading.Timer(1.5, release.set).start()
    with pytest.raises(UserError, match="no batch in 1 seconds"):
        next(prefetched)
    assert not prefetched._thread.is_alive()
