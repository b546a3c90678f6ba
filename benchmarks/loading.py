"""Measures data loading, compared with the JPEG decoder alone and the DataLoader of PyTorch.

    python -m benchmarks.loading                                        # rendered faces
    python -m benchmarks.loading --data=affectnet --manual_dir=/path/to/AffectNet

Every contender yields shuffled uint8 batches [B, S, S, 3] from the same JPEGs, except the decoder
alone, which is the limit: one thread per core decodes JPEGs in memory and discards the pixels. The
DataLoader of PyTorch reads files with Pillow, as its documentation shows; with the most workers
also with our decoder, simplejpeg. Contenders run in turns, and ratios are of runs in the same
round, so that other load affects all. Buffered batches are consumed before the clock starts, and no
contender prefetches while another is measured.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import functools
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psutil
import simplejpeg

from affect_jax.core import registry
from affect_jax.core.batch import make_targets
from affect_jax.data import DATASETS, loader, sampling
from affect_jax.data.tfds_builder import Split, open_split
from benchmarks import harness, torch_peer

LIMIT = "decoder alone"
PASSES = 1_000_000  # more than any benchmark reads

ReadBatches = Callable[[int], Any]  # reads so many batches


def main(argv: Sequence[str] | None = None) -> None:
    args = harness.parse_args(
        __doc__,
        argv,
        data=("synthetic_faces", None, "name of a dataset"),
        manual_dir=("", None, "folder of its release"),
        num_faces=(2048, 16, "faces of synthetic_faces"),
        image_size=(256, 32),
        batch_size=(256, 4),
        workers=((0, 1, 2), (0,)),
        batches=(32, 1, "per contender and round"),
    )
    registry.import_submodules("affect_jax.data")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        split = prepare_split(args, folder)
        contenders = create_contenders(split, args, pathlib.Path(folder), stack)
        rates = measure(contenders, args)
    peer = harness.fastest(rates, [name for name in rates if "Pillow" in name])
    ratios = {"of the decoder": LIMIT, "of PyTorch's best with Pillow": peer}
    harness.write_result(
        "loading",
        what=f"Images/s, records to uint8 batches of {args.batch_size}",
        args=args,
        rows=harness.summarize(rates, "images/s", ratios),
        runs=rates,
    )


def prepare_split(args: argparse.Namespace, folder: str) -> Split:
    """Prepares the dataset in a temporary folder and opens its training split."""
    spec: dict[str, Any] = {"name": args.data}
    if args.data == "synthetic_faces":
        spec |= {"num_training": args.num_faces, "num_validation": 8, "skew": "balanced"}
    builder = DATASETS.create(
        spec, manual_dir=args.manual_dir, data_dir=folder, image_size=args.image_size
    )
    return open_split(builder, "training")


def create_contenders(
    split: Split, args: argparse.Namespace, folder: pathlib.Path, stack: contextlib.ExitStack
) -> dict[str, ReadBatches]:
    """Returns name -> function that reads batches; `stack` stops their threads and processes."""
    jpegs = list(torch_peer.read_jpegs(split, range(min(len(split), 4096))))
    targets = make_targets(split.columns())
    rows = sampling.TrainingRows(
        sampling.NoResampling(), targets["expression"], seed=0, batch_size=args.batch_size
    )
    pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(harness.count_cores()))
    contenders: dict[str, ReadBatches] = {
        LIMIT: lambda count: decode_only(pool, jpegs, count * args.batch_size)
    }

    def our_loader(images: Any, workers: int) -> ReadBatches:
        size = args.image_size
        stream = loader.load_batches(images, targets, rows, image_size=size, num_workers=workers)
        stack.enter_context(contextlib.closing(stream))
        return functools.partial(read_batches, stream)

    def torch_loader(decode: Callable[[pathlib.Path], np.ndarray], workers: int) -> ReadBatches:
        faces = torch_peer.FaceFiles(files, np.zeros(len(jpegs)), None, True, decode)
        batches = torch_peer.create_loader(faces, args.batch_size, workers=workers, passes=PASSES)
        return functools.partial(read_batches, iter(batches))

    for workers in args.workers:
        contenders[f"affect_jax, {workers} workers"] = our_loader(split.records, workers)
    decoded = loader.decode_split(split.records, image_size=args.image_size)
    contenders["affect_jax, cache='host'"] = our_loader(decoded, 0)
    if harness.is_installed("torch") and args.workers:
        files = folder / "files"
        torch_peer.write_files(jpegs, files)
        for workers in args.workers:
            name = f"PyTorch DataLoader + Pillow, {workers} workers"
            contenders[name] = torch_loader(torch_peer.decode_with_pillow, workers)
        name = f"PyTorch DataLoader + simplejpeg, {max(args.workers)} workers"
        contenders[name] = torch_loader(decode_with_simplejpeg, max(args.workers))
    return contenders


def decode_with_simplejpeg(path: pathlib.Path) -> np.ndarray:
    return simplejpeg.decode_jpeg(path.read_bytes(), "RGB")


def decode_only(pool: concurrent.futures.Executor, jpegs: list[bytes], count: int) -> None:
    def decode_chunk(first: int) -> None:
        for index in range(first, min(first + 64, count)):
            simplejpeg.decode_jpeg(jpegs[index % len(jpegs)], "RGB")

    list(pool.map(decode_chunk, range(0, count, 64)))


def read_batches(stream: Iterator[Any], count: int) -> None:
    for _ in range(count):
        next(stream)


def measure(contenders: dict[str, ReadBatches], args: argparse.Namespace) -> harness.Runs:
    """Returns images/s of every contender in every round."""
    buffered = 2 * max([harness.count_cores(), *args.workers]) + 2

    def images_per_second(read: ReadBatches) -> float:
        wait_for_idle()
        read(buffered)
        seconds = harness.measure_seconds(functools.partial(read, args.batches))
        return args.batches * args.batch_size / seconds

    for read in contenders.values():
        read(1)  # starts worker processes
    timers = {name: functools.partial(images_per_second, read) for name, read in contenders.items()}
    return harness.run_interleaved(timers, args.rounds)


def wait_for_idle() -> None:
    """Waits until no thread or process of this benchmark prefetches any more."""
    process = psutil.Process()

    def processor_seconds() -> float:
        processes = [process, *process.children(recursive=True)]
        return sum(sum(running.cpu_times()[:2]) for running in processes)

    now = processor_seconds()
    while True:
        time.sleep(0.1)
        before, now = now, processor_seconds()
        if now - before < 0.02:  # the resolution is 0.01 s
            return


if __name__ == "__main__":
    main()
