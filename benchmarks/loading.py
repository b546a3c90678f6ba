"""How fast faces come from records into memory, beside the decoder alone and PyTorch's DataLoader.

    python -m benchmarks.loading                                        # rendered faces
    python -m benchmarks.loading --data=affectnet --manual_dir=/path/to/AffectNet

Every contender hands over uint8 batches [B, S, S, 3] in shuffled order from the same JPEGs, except
the decoder alone: threads, one a core, decode JPEGs that are in memory and drop the pixels. It is
the limit. Contenders take turns, and ratios are of runs in the same round, so that a busy machine
slows all. What is in a pipeline's buffers when its turn comes is taken out before the clock starts.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import simplejpeg
from tabulate import tabulate

from affect_jax import batch as batches_of
from affect_jax import registry
from affect_jax.data import DATASETS, features, loader, sampling
from benchmarks.machine import installed, machine

LIMIT = "decoder alone"
PACKAGES = ("numpy", "simplejpeg", "grain", "array-record", "tensorflow-datasets")
PEERS = ("torch", "pillow")

Take = Callable[[int], Any]  # takes that many batches


def main() -> None:
    options = parse()
    registry.load_all("affect_jax.data")
    with tempfile.TemporaryDirectory() as folder:
        split = prepared(options, folder)
        contenders, close = create(split, options, pathlib.Path(folder))
        try:
            rates = measure(contenders, options)
        finally:
            close()
    rows = summary(rates)
    print(tabulate(rows, headers="keys", tablefmt="github"))
    result = {"what": "images/s, records to uint8 batches", "options": vars(options)}
    result |= machine(PACKAGES + PEERS) | {"summary": rows, "runs": rates}
    path = pathlib.Path(options.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwritten: {path}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="synthetic_faces", help="a data set's name")
    parser.add_argument("--manual_dir", default="", help="its release")
    parser.add_argument("--num_faces", type=int, default=2048, help="of synthetic_faces")
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=8, help="of each contender, each round")
    parser.add_argument("--out", default="benchmarks/results/loading.json")
    return parser.parse_args()


def prepared(options: argparse.Namespace, folder: str) -> features.Split:
    """The training split of the data set, written to a folder that goes when we end."""
    spec: dict[str, Any] = {"name": options.data}
    if options.data == "synthetic_faces":
        spec |= {"num_training": options.num_faces, "num_validation": 8, "skew": "balanced"}
    builder = DATASETS.create(
        spec, manual_dir=options.manual_dir, data_dir=folder, image_size=options.image_size
    )
    return features.open_split(builder, "training")


def create(
    split: features.Split, options: argparse.Namespace, folder: pathlib.Path
) -> tuple[dict[str, Take], Callable[[], None]]:
    """The contenders by name, each taking batches, and what ends them."""
    jpegs = [split.records[row]["image"] for row in range(min(len(split), 4096))]
    targets = batches_of.targets(split.columns())
    rows = sampling.TrainingRows(
        sampling.Natural(), targets["expression"], seed=0, batch_size=options.batch_size
    )
    pool = concurrent.futures.ThreadPoolExecutor(cores())
    contenders: dict[str, Take] = {
        LIMIT: lambda count: decode_only(pool, jpegs, count * options.batch_size)
    }
    opened = []

    def ours(images: Any, workers: int) -> Take:
        size = options.image_size
        loaded = loader.batches(images, targets, rows, image_size=size, num_workers=workers)
        opened.append(loaded)
        return lambda count: [next(loaded) for _ in range(count)] and None

    for workers in options.workers:
        contenders[f"affect_jax, {processes(workers)}"] = ours(split.records, workers)
    decoded = loader.decode_all(split.records, image_size=options.image_size)
    contenders["affect_jax, cache='host'"] = ours(decoded, 0)
    if installed("torch"):
        write_files(jpegs, folder / "files")
        for workers in options.workers:
            stream = torch_batches(folder / "files", options.batch_size, workers)
            contenders[f"PyTorch DataLoader + Pillow, {processes(workers)}"] = (
                lambda count, stream=stream: [next(stream) for _ in range(count)] and None
            )

    def close() -> None:
        pool.shutdown()
        for loaded in opened:
            loaded.close()

    return contenders, close


def processes(workers: int) -> str:
    return f"{workers} workers" if workers else "no workers"


def decode_only(pool: concurrent.futures.Executor, jpegs: list[bytes], count: int) -> None:
    def some(first: int) -> None:
        for place in range(first, first + 64):
            simplejpeg.decode_jpeg(jpegs[place % len(jpegs)], "RGB")

    list(pool.map(some, range(0, count, 64)))


def write_files(jpegs: list[bytes], folder: pathlib.Path) -> None:
    folder.mkdir()
    for place, jpeg in enumerate(jpegs):
        (folder / f"{place}.jpg").write_bytes(jpeg)


class Files:
    """PyTorch's side: a map-style data set of JPEG files, read by Pillow."""

    def __init__(self, folder: pathlib.Path):
        self.paths = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Any:
        import torch
        from PIL import Image

        with Image.open(self.paths[place]) as image:
            return torch.from_numpy(np.array(image.convert("RGB")))


def torch_batches(folder: pathlib.Path, batch_size: int, workers: int) -> Iterator[Any]:
    """Batches without end, as PyTorch's documentation would have them loaded."""
    from torch.utils.data import DataLoader

    data: Any = DataLoader(
        Files(folder),  # pyright: ignore[reportArgumentType]
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    while True:
        yield from data


def measure(contenders: dict[str, Take], options: argparse.Namespace) -> dict[str, list[float]]:
    """Images/s of every contender in every round."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    buffered = 2 * max([cores(), *options.workers]) + 2
    for take in contenders.values():
        take(1)  # starts worker processes
    for _ in range(options.rounds):
        for name, take in contenders.items():
            take(buffered)
            begin = time.perf_counter()
            take(options.batches)
            seconds = time.perf_counter() - begin
            rates[name].append(options.batches * options.batch_size / seconds)
    return rates


def summary(rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    """One row a contender: median images/s, and median ratios of runs in the same round."""
    peers = [name for name in rates if name.startswith("PyTorch")]
    best = max(peers, key=lambda name: statistics.median(rates[name])) if peers else None

    def ratio(name: str, other: str | None) -> str:
        if other is None:
            return "-"
        pairs = zip(rates[name], rates[other], strict=True)
        return f"{statistics.median(a / b for a, b in pairs):.2f}"

    return [
        {
            "contender": name,
            "images/s": round(statistics.median(runs)),
            "of the decoder": ratio(name, LIMIT),
            "of PyTorch's best": ratio(name, best),
        }
        for name, runs in rates.items()
    ]


def cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
