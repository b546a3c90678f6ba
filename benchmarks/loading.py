"""How fast faces come from records into memory, beside the decoder alone and PyTorch's DataLoader.

    python -m benchmarks.loading                                        # rendered faces
    python -m benchmarks.loading --data=affectnet --manual_dir=/path/to/AffectNet

Every contender hands over uint8 batches [B, S, S, 3] in shuffled order from the same JPEGs, except
the decoder alone: threads, one a core, decode JPEGs that are in memory and drop the pixels. It is
the limit. PyTorch's loader reads files by Pillow, as its documentation has it; with the most
workers also by torchvision's decoder, where that works, and by ours. Contenders take turns, and
ratios are of runs in the same round, so that a busy machine slows all. What is in a pipeline's
buffers when its turn comes is taken out before the clock starts, and nobody fills his for a turn to
come while the clock runs for another.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import functools
import pathlib
import statistics
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
from affect_jax.data.builder import Split, open_split
from benchmarks import decoders, peer_data, peers, recording
from benchmarks.machine import cores, installed

LIMIT = "decoder alone"
PEER_DECODERS = ("Pillow", "torchvision", "simplejpeg")
PASSES = 1_000_000  # without a pause between them
PACKAGES = (
    "numpy",
    "simplejpeg",
    "grain",
    "array-record",
    "tensorflow-datasets",
    "torch",
    "pillow",
)

Take = Callable[[int], Any]  # takes that many batches


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    registry.load_all("affect_jax.data")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        split = prepared(options, folder)
        contenders = create(split, options, pathlib.Path(folder), stack)
        rates = measure(contenders, options)
    recording.keep(
        "loading",
        what=f"Images/s, records to uint8 batches of {options.batch_size}",
        options=options,
        rows=summary(rates),
        runs=rates,
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--data", default="synthetic_faces", help="a data set's name")
    found.add_argument("--manual_dir", default="", help="its release")
    found.add_argument("--num_faces", type=int, default=2048, help="of synthetic_faces")
    found.add_argument("--image_size", type=int, default=256)
    found.add_argument("--batch_size", type=int, default=256)
    found.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    found.add_argument("--batches", type=int, default=32, help="of each contender, each round")
    quick = {"num_faces": 16, "image_size": 32, "batch_size": 4, "workers": [0], "batches": 1}
    return recording.parse(found, arguments, quick)


def prepared(options: argparse.Namespace, folder: str) -> Split:
    """The training split of the data set, written to a folder that goes when we end."""
    spec: dict[str, Any] = {"name": options.data}
    if options.data == "synthetic_faces":
        spec |= {"num_training": options.num_faces, "num_validation": 8, "skew": "balanced"}
    builder = DATASETS.create(
        spec, manual_dir=options.manual_dir, data_dir=folder, image_size=options.image_size
    )
    return open_split(builder, "training")


def create(
    split: Split,
    options: argparse.Namespace,
    folder: pathlib.Path,
    stack: contextlib.ExitStack,
) -> dict[str, Take]:
    """The contenders by name, each taking batches; `stack` ends what they started."""
    jpegs = list(peer_data.jpegs(split, range(min(len(split), 4096))))
    targets = make_targets(split.columns())
    rows = sampling.TrainingRows(
        sampling.Natural(), targets["expression"], seed=0, batch_size=options.batch_size
    )
    pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(cores()))
    contenders: dict[str, Take] = {
        LIMIT: lambda count: decode_only(pool, jpegs, count * options.batch_size)
    }

    def ours(images: Any, workers: int) -> Take:
        size = options.image_size
        loaded = loader.batches(images, targets, rows, image_size=size, num_workers=workers)
        stack.enter_context(contextlib.closing(loaded))
        return functools.partial(take, loaded)

    for workers in options.workers:
        contenders[f"affect_jax, {processes(workers)}"] = ours(split.records, workers)
    decoded = loader.decode_all(split.records, image_size=options.image_size)
    contenders["affect_jax, cache='host'"] = ours(decoded, 0)
    if installed("torch") and options.workers:
        peer_data.write_files(jpegs, folder / "files")
        for name in decoders.working(jpegs[0], PEER_DECODERS):
            for workers in options.workers if name == "Pillow" else [max(options.workers)]:
                stream = torch_batches(folder / "files", options.batch_size, name, workers)
                title = f"PyTorch DataLoader + {name}, {processes(workers)}"
                contenders[title] = functools.partial(take, stream)
    return contenders


def take(stream: Iterator[Any], count: int) -> None:
    for _ in range(count):
        next(stream)


def processes(workers: int) -> str:
    return f"{workers} workers" if workers else "no workers"


def decode_only(pool: concurrent.futures.Executor, jpegs: list[bytes], count: int) -> None:
    def some(first: int) -> None:
        for place in range(first, min(first + 64, count)):
            simplejpeg.decode_jpeg(jpegs[place % len(jpegs)], "RGB")

    list(pool.map(some, range(0, count, 64)))


class Files:
    """PyTorch's side: a map-style data set of JPEG files, decoded by one of `decoders.KNOWN`."""

    def __init__(self, folder: pathlib.Path, decoder: str):
        self.paths = sorted(folder.iterdir())
        self._decoder = decoder
        self._decode: Callable[[bytes], Any] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Any:
        content = self.paths[place].read_bytes()
        if self._decode is None:  # in the worker
            self._decode = decoders.KNOWN[self._decoder]()
        face, torch = self._decode(content), peers.torch()
        return face if isinstance(face, torch.Tensor) else torch.as_tensor(np.array(face))


def torch_batches(
    folder: pathlib.Path, batch_size: int, decoder: str, workers: int
) -> Iterator[Any]:
    """As many batches as ever, as PyTorch's documentation would have them loaded."""
    files = Files(folder, decoder)
    return iter(peer_data.loader(files, batch_size, workers=workers, passes=PASSES))


def settle() -> None:
    """Returns when no thread or process of this benchmark loads ahead any more."""
    process = psutil.Process()

    def used() -> float:
        several = [process, *process.children(recursive=True)]
        return sum(sum(one.cpu_times()[:2]) for one in several)

    now = used()
    while True:
        time.sleep(0.1)
        before, now = now, used()
        if now - before < 0.02:  # it counts hundredths
            return


def measure(contenders: dict[str, Take], options: argparse.Namespace) -> recording.Runs:
    """Images/s of every contender in every round."""
    buffered = 2 * max([cores(), *options.workers]) + 2

    def rate(take: Take) -> float:
        settle()
        take(buffered)
        seconds = recording.seconds_of(functools.partial(take, options.batches))
        return options.batches * options.batch_size / seconds

    for one in contenders.values():
        one(1)  # starts worker processes
    turns = {name: functools.partial(rate, one) for name, one in contenders.items()}
    return recording.take_turns(turns, options.rounds)


def summary(rates: recording.Runs) -> list[dict[str, Any]]:
    """One row a contender: median images/s, and median ratios of runs in the same round."""
    peer = recording.best(rates, [name for name in rates if "Pillow" in name])

    def ratio(name: str, other: str | None) -> str:
        return "-" if other is None else recording.times(rates[name], rates[other])

    return [
        {
            "contender": name,
            "images/s": round(statistics.median(runs)),
            "of the decoder": ratio(name, LIMIT),
            "of PyTorch's best with Pillow": ratio(name, peer),
        }
        for name, runs in rates.items()
    ]


if __name__ == "__main__":
    main()
